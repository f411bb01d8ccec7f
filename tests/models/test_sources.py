"""Every format is recognised by its content, and gives the same model as the code that it comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from tests.models import foreign
from tests.models.foreign import LABELS, WIDTH, create_vit
from tests.models.oracle import create_oracle, oracle_logits, our_weights
from tests.timesformers import config_of
from transformers import TimesformerForVideoClassification, VideoMAEImageProcessorPil, ViTForImageClassification

from cover.errors import CheckpointError
from cover.models.classifier import save_model
from cover.models.create import create_model
from cover.models.loading import load_weights
from cover.models.sources import open_source

NUMBERS = ("0", "1", "2")
HALF = (0.5, 0.5, 0.5)
SAVED = (0.4, 0.5, 0.6)


def save_half_precision(vit: ViTForImageClassification, folder: Path) -> Path:
    foreign.save_transformers_vit(vit.half(), folder)
    vit.float()
    return folder


def save_in_memory(vit: ViTForImageClassification, path: Path) -> Path:
    torch.save(vit.state_dict(), path)
    return path


def save_bare_timm(vit: ViTForImageClassification, path: Path) -> Path:
    torch.save({f"module.{name}": tensor for name, tensor in foreign.timm_state(vit).items()}, path)
    return path


VIT_FORMATS: dict[str, tuple[Callable[..., Path], str, tuple[str, ...], tuple[float, ...]]] = {
    "transformers": (foreign.save_transformers_vit, "transformers-vit", LABELS, SAVED),
    "shards": (lambda *a: foreign.save_transformers_vit(*a, max_shard_size="200KB"), "transformers-vit", LABELS, SAVED),
    "half": (save_half_precision, "transformers-vit", LABELS, SAVED),
    "timm": (foreign.save_timm, "timm-vit", LABELS, SAVED),
    "bare timm": (save_bare_timm, "timm-vit", NUMBERS, HALF),
    "memory": (save_in_memory, "transformers-vit", NUMBERS, HALF),
    "jax": (lambda vit, path: foreign.save_jax(vit, path.with_suffix(".npz")), "jax-vit", NUMBERS, HALF),
    "old jax": (
        lambda vit, path: foreign.save_jax(vit, path.with_suffix(".npz"), "opt/target/"),
        "jax-vit",
        NUMBERS,
        HALF,
    ),
}


@pytest.mark.parametrize("kind", VIT_FORMATS)
def test_a_vit_answers_as_its_own_code_does(kind: str, tmp_path: Path) -> None:
    save, format, labels, mean = VIT_FORMATS[kind]
    vit = create_vit()
    path = save(vit, tmp_path / "no-telling-name")
    source = open_source(path)
    assert (source.format, source.config.heads, source.config.mean) == (format, {"head": labels}, mean)
    assert (config_of(source.config).attention, source.config.image_size_px, source.unused) == ("space_only", 32, ())

    model = create_model(depth=2, width=WIDTH, num_heads=2, image_size=32, num_frames=4, heads={"head": labels}).eval()
    load_weights(model, path)
    frames = torch.randn(1, 2, 3, 32, 32)
    with torch.no_grad():
        expected = vit(frames[0]).logits
        for num_frames in (1, 4):  # a clip that stands still is its image, for new temporal layers change nothing
            logits = model({"head": frames.expand(num_frames, -1, -1, -1, -1)})["head"]
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-2 if kind == "half" else 1e-5)


def save_oracle(kind: str, folder: Path, attention: str) -> tuple[TimesformerForVideoClassification, Path]:
    oracle = create_oracle(attention=attention, hidden_size=WIDTH, num_attention_heads=2, num_labels=3).eval()
    if kind == "published":
        state = {name.replace("heads.k400", "head"): tensor for name, tensor in our_weights(oracle).items()}
        return oracle, foreign.save_published(state, folder / "TimeSformer_divST_8x32_224_K400.pyth")
    oracle.config.id2label = dict(enumerate(LABELS))
    oracle.save_pretrained(folder, **({"max_shard_size": "200KB"} if kind == "shards" else {}))
    VideoMAEImageProcessorPil(image_mean=SAVED).save_pretrained(folder)
    if kind == "bin":
        (folder / "model.safetensors").unlink()
        torch.save(oracle.state_dict(), folder / "pytorch_model.bin")
    return oracle, folder


@pytest.mark.parametrize("attention", ["divided", "joint", "space_only"])
@pytest.mark.parametrize("kind", ["published", "transformers", "shards", "bin"])
def test_a_timesformer_answers_as_its_own_code_does(kind: str, attention: str, tmp_path: Path) -> None:
    oracle, path = save_oracle(kind, tmp_path, attention)
    source = open_source(path)
    published = kind == "published"
    assert source.format == ("timesformer" if published else "transformers-timesformer")
    assert source.config.mean == ((0.45, 0.45, 0.45) if published else SAVED)
    assert (config_of(source.config).attention, source.unused) == (attention, ())
    if attention != "space_only":
        assert source.config.num_frames == 4

    labels = NUMBERS if published else LABELS
    model = create_model(
        depth=2, width=WIDTH, num_heads=2, image_size=32, num_frames=4, attention=attention, heads={"head": labels}
    ).eval()
    report = load_weights(model, source)
    assert list(report.outcomes()) == ["loaded"]
    frames = torch.randn(4, 2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model({"head": frames})["head"], oracle_logits(oracle, frames), rtol=1e-5, atol=1e-5)


def test_a_model_of_ours_is_read_from_its_folder_file_and_run(tmp_path: Path) -> None:
    model = create_model("timesformer_tiny", depth=1, width=48, image_size=32, heads={"k400": 3, "ssv2": 2})
    folder = tmp_path / "checkpoints" / "step-1"
    save_model(model, folder)
    (tmp_path / "latest").write_text("step-1\n")
    for path in (folder, folder / "model.safetensors", tmp_path):
        source = open_source(path)
        assert (source.format, source.config, source.unused) == ("cover", model.config, ())
        assert torch.equal(source.tensor("heads.ssv2.weight"), model.get_parameter("heads.ssv2.weight"))


def test_a_classifier_behind_another_layer_is_not_taken_for_a_head(tmp_path: Path) -> None:
    arrays = foreign.jax_arrays(create_vit())
    np.savez(tmp_path / "vit.npz", **arrays | {"pre_logits/kernel": np.zeros((WIDTH, WIDTH), np.float32)})
    source = open_source(tmp_path / "vit.npz")
    assert source.config.heads == {}
    assert source.unused == ("head/bias", "head/kernel", "pre_logits/kernel")


def without(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda state: state.__delitem__(name)


def having(name: str, *shape: int) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda state: state.__setitem__(name, torch.zeros(shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (having("blocks.0.gamma_1", WIDTH), "looks like timm-vit, but blocks.0.gamma_1 has no place in a"),
        (having("blocks.0.ls3.gamma", WIDTH), "looks like timm-vit, but blocks.0.ls3.gamma has no place in a"),
        (
            having("norm_pre.weight", WIDTH),
            r"norm before the blocks, .*, but norm_pre.bias is absent instead of \[128\]",
        ),
        (having("fc_norm.weight", WIDTH), "but fc_norm.weight has no place in a"),
        (having("dist_token", 1, 1, WIDTH), "but dist_token has no place in a"),
        (having("rel_pos_bias.table", 9, 2), "but rel_pos_bias.table has no place in a"),
        (having("attn_pool.q.weight", WIDTH, WIDTH), "but attn_pool.q.weight has no place in a"),
        (having("patch_embed.norm.weight", WIDTH), "but patch_embed.norm.weight has no place in a"),
        (having("blocks.0.attn.q_norm.weight", 64), "but blocks.0.attn.q_norm.weight has no place in a"),
        (having("blocks.3.attn.qkv.weight", 3, 3), "but blocks.3.attn.qkv.weight has no place in a"),
        (without("blocks.1.attn.qkv.bias"), "blocks.1.attn.qkv.bias is absent instead of"),
        (having("pos_embed", 1, 4, WIDTH), r"pos_embed is \[1, 4, 128\] instead of \[1, 2, 128\]"),
        (having("blocks.0.attn.qkv.lora_A.weight", 4, WIDTH), "blocks.0.attn.qkv.lora_A.weight has no place in a"),
        (
            having("reg_token", 1, 4, WIDTH),
            "looks like timm-vit, but reg_token has no place in a model of the family",
        ),
        (without("norm.weight"), r"2 blocks, width 128, .*, but norm.weight is absent instead of \[128\]"),
        (without("pos_embed"), r"fits no model \(pos_embed is absent\)"),
        (having("patch_embed.proj.weight", WIDTH, 3, 2, 16, 16), r"\(patch_embed.proj.weight is \[128, 3, 2, 16, 16\]"),
        (having("blocks.1.mlp.fc1.weight", 256, WIDTH), r"fc1.weight is \[256, 128\] instead of \[512, 128\]"),
        (having("pos_embed", 1, 6, WIDTH), r"pos_embed is \[1, 6, 128\] instead of \[1, 5, 128\]"),
        (lambda state: state.clear(), "has no tensors; cover loads its own models, the published"),
        (without("blocks.0.attn.qkv.weight"), r"has \d+ tensors of an unknown model \(cls_token, pos_embed, …\); c"),
    ],
)
def test_what_is_no_timesformer_or_plain_vit_is_refused(
    change: Callable[[dict[str, torch.Tensor]], None], message: str, tmp_path: Path
) -> None:
    state = foreign.timm_state(create_vit())
    change(state)
    torch.save(state, tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match=message) as caught:
        open_source(tmp_path / "vit.pth")
    assert "\n" not in str(caught.value)


def test_the_parts_of_an_adapter_are_called_so(tmp_path: Path) -> None:
    torch.save({"base_model.model.blocks.0.attn.qkv.lora_A.weight": torch.zeros(4, 64)}, tmp_path / "adapter.pth")
    with pytest.raises(CheckpointError, match="looks like a LoRA adapter, which must first be merged into its base"):
        open_source(tmp_path / "adapter.pth")


@pytest.mark.parametrize("head", ["head.norm.weight", "head.0.weight", "pre_logits.fc.weight"])
def test_a_classifier_of_more_than_one_layer_is_no_head(head: str, tmp_path: Path) -> None:
    torch.save(foreign.timm_state(create_vit()) | {head: torch.zeros(2)}, tmp_path / "vit.pth")
    source = open_source(tmp_path / "vit.pth")
    assert source.config.heads == {}
    assert source.unused == tuple(sorted(["head.bias", "head.weight", head]))


def test_a_state_dict_of_ours_without_its_configuration_is_refused(tmp_path: Path) -> None:
    """Its classes, its normalisation and its attention heads stand in config.json only."""
    model = create_model("timesformer_tiny", depth=1, width=48, image_size=32, heads={"k400": 3})
    torch.save(model.state_dict(), tmp_path / "ours.pth")
    with pytest.raises(CheckpointError, match=r"a model of cover without its config\.json; copy that, too"):
        open_source(tmp_path / "ours.pth")


@pytest.mark.parametrize(
    "change", [lambda tensor: tensor.to(torch.float8_e4m3fn), lambda tensor: tensor.to(torch.int8)]
)
def test_quantised_weights_are_refused_before_they_are_read(
    change: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    state = foreign.timm_state(create_vit())
    state["norm.bias"] = change(state["norm.bias"])
    torch.save(state, tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match=r"norm\.bias is (float8_e4m3fn|int8), but weights must be float64"):
        open_source(tmp_path / "vit.pth")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_longer_and_shorter_numbers_are_converted(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {name: tensor.to(dtype) for name, tensor in foreign.timm_state(create_vit()).items()}
    torch.save(state, tmp_path / "vit.pth")
    model = create_model(depth=2, width=WIDTH, num_heads=2, image_size=32, num_frames=4, heads={"head": 3})
    load_weights(model, tmp_path / "vit.pth")
    assert torch.equal(
        model.get_parameter("backbone.blocks.1.mlp.fc1.weight"), state["blocks.1.mlp.fc1.weight"].float()
    )


def test_a_jax_array_without_the_right_dimensions_is_refused(tmp_path: Path) -> None:
    arrays = foreign.jax_arrays(create_vit())
    arrays["Transformer/encoderblock_0/MultiHeadDotProductAttention_1/out/kernel"] = np.zeros(7, np.float32)
    np.savez(tmp_path / "vit.npz", **arrays)
    with pytest.raises(CheckpointError, match=r"blocks.0.attn.proj.weight is \[7\] instead of \[128, 128\]"):
        open_source(tmp_path / "vit.npz")


def test_another_model_of_transformers_is_called_by_its_type(tmp_path: Path) -> None:
    torch.save({"videomae.encoder.weight": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "videomae"}))
    with pytest.raises(CheckpointError, match="looks like a 'videomae' model; cover loads"):
        open_source(tmp_path)


def test_only_an_address_of_the_hub_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, cached = list[str](), list[str]()

    def snapshot_download(name: str, *, local_files_only: bool, **options: object) -> str:
        if local_files_only and name not in cached:
            raise LocalEntryNotFoundError("not there")
        if not local_files_only:
            asked.append(name)
        return str(foreign.save_transformers_vit(create_vit(), tmp_path / "hub"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(CheckpointError, match="google/vit does not exist; give a run, a file or folder of weights, or"):
        open_source("google/vit")
    assert not asked
    assert open_source("hf://google/vit").format == "transformers-vit"
    assert asked == ["google/vit"]
    cached += asked
    assert open_source("google/vit").format == "transformers-vit"
    assert asked == ["google/vit"]
