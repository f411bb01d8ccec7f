"""Settings beside weights: honoured, with the same logits as the code that wrote them, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.models import foreign
from tests.models.foreign import DEPTH, WIDTH, create_vit
from tests.models.oracle import create_oracle, oracle_logits
from tests.timesformers import config_of
from transformers import ViTForImageClassification

from cover.errors import CheckpointError
from cover.models.classifier import read_model, save_model
from cover.models.create import create_model
from cover.models.info import describe
from cover.models.loading import load_weights
from cover.models.sources import open_source


def assert_same_logits(vit: ViTForImageClassification, path: Path, num_heads: int) -> None:
    """Of the ViT and of a fresh model with that many attention heads that was loaded from `path`."""
    config = config_of(open_source(path).config)
    model = create_model(
        depth=DEPTH, width=config.width, num_heads=num_heads, image_size=32, num_frames=1, heads=config.heads
    ).eval()
    load_weights(model, path)
    frames = torch.randn(1, 2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model({"head": frames})["head"], vit(frames[0]).logits, rtol=0, atol=2e-5)


def assert_refused(folder: Path, message: str) -> None:
    """Opening the weights in a folder ends with this message, in one line."""
    with pytest.raises(CheckpointError, match=message) as caught:
        open_source(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("num_heads", [1, 4, 8])
@pytest.mark.parametrize("format", ["transformers", "timm", "jax"])
def test_attention_heads_of_any_width_are_read(format: str, num_heads: int, tmp_path: Path) -> None:
    """128 channels in 1, 4 or 8 heads, as ViT-H/14 has 80 a head and MoCo v3's ViT-S 32."""
    vit = create_vit(num_attention_heads=num_heads)
    if format == "transformers":
        path = foreign.save_transformers_vit(vit, tmp_path / "vit")
    elif format == "timm":
        path = foreign.save_timm(vit, tmp_path / "vit")
    else:
        path = foreign.save_jax(vit, tmp_path / "vit.npz")
    source = open_source(path)
    assert config_of(source.config).num_heads == num_heads and "num_heads" not in source.not_stated
    assert_same_logits(vit, path, num_heads)
    with pytest.raises(
        CheckpointError, match=f"has num_heads {num_heads}, this model has 2; set model.num_heads = {num_heads}"
    ):
        load_weights(create_model(depth=DEPTH, width=WIDTH, num_heads=2, image_size=32, heads={}), path)


def test_an_npz_whose_blocks_have_different_heads_is_refused(tmp_path: Path) -> None:
    arrays = foreign.jax_arrays(create_vit(num_attention_heads=2))
    name = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/kernel"
    np.savez(tmp_path / "vit.npz", **arrays | {name: arrays[name].reshape(WIDTH, 4, -1)})
    with pytest.raises(
        CheckpointError, match=r"fits no model \(its blocks have 2 and 4 attention heads\); use other weights"
    ):
        open_source(tmp_path / "vit.npz")


def test_info_shows_what_a_file_does_not_state(tmp_path: Path) -> None:
    torch.save(foreign.timm_state(create_vit(num_attention_heads=4)), tmp_path / "vit.pth")
    info = describe(tmp_path / "vit.pth")
    assert info.not_stated == ("heads", "mean", "num_heads", "std")
    assert json.loads(info.to_json())["config"]["num_heads"] is None


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 1e-2])
def test_the_epsilon_of_the_norms_is_honoured_and_stored(eps: float, tmp_path: Path) -> None:
    vit = create_vit(layer_norm_eps=eps)
    assert_same_logits(vit, path := foreign.save_transformers_vit(vit, tmp_path / "vit"), 2)
    model = create_model(depth=DEPTH, width=WIDTH, num_heads=2, image_size=32, num_frames=1, heads={"d": 3}).eval()
    load_weights(model, path)
    save_model(model, tmp_path / "ours")
    again = read_model(tmp_path / "ours")
    frames = torch.randint(256, (1, 2, 3, 32, 32), dtype=torch.uint8)
    assert again.config.layer_norm_eps == eps
    assert torch.equal(again({"d": frames})["d"], model({"d": frames})["d"])


@pytest.mark.parametrize("attention", ["divided", "joint", "space_only"])
def test_the_epsilon_of_a_timesformer_is_honoured(attention: str, tmp_path: Path) -> None:
    oracle = create_oracle(attention=attention, layer_norm_eps=1e-2).eval()
    oracle.save_pretrained(tmp_path)
    model = create_model(
        depth=2, width=48, num_heads=3, image_size=32, num_frames=4, attention=attention, heads={"head": 5}
    ).eval()
    load_weights(model, tmp_path)
    frames = torch.randn(4, 2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model({"head": frames})["head"], oracle_logits(oracle, frames), rtol=1e-5, atol=1e-5)


def change(folder: Path, file: str = "config.json", **settings: Any) -> None:
    values = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(values | settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act = 'relu': input should be 'gelu', "),
        ({"qkv_bias": False}, "qkv_bias = False: input should be True"),
        ({"image_size": [16, 64]}, r"image_size.* frames and patches must be square"),
        ({"num_channels": 4}, "num_channels = 4: input should be 3"),
        ({"quantization_config": {"bits": 8}}, "quantization_config = .*: input should be null"),
        ({"model_type": "deit"}, "model_type = 'deit': input should be 'vit', "),
        (
            {"model_type": "timesformer"},
            "belongs to a timesformer, but the weights beside it look like transformers-vit",
        ),
        ({"num_hidden_layers": 3}, "states depth 3, but the tensors beside it have 2; give them their own config.json"),
        ({"hidden_size": 256}, "states width 256, but the tensors beside it have 128"),
        ({"num_attention_heads": 0}, "num_attention_heads = 0: input should be greater than or equal to 1"),
        ({"num_attention_heads": 3}, "width 128 is not a multiple of the 3 attention heads"),
        ({"num_attention_heads": "2"}, "num_attention_heads = '2': input should be a valid integer"),
        (
            {"num_attention_heads": 10**30},
            "num_attention_heads = 1000000000000000000000000000000: input should be less",
        ),
        ({"layer_norm_eps": 0}, "layer_norm_eps = 0: input should be greater than 0"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps = nan: input should be a finite number"),
        ({"id2label": [1, 2]}, "id2label = .*: input should be an object"),
    ],
)
def test_settings_of_transformers_that_make_another_function_are_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = foreign.save_transformers_vit(create_vit(), tmp_path / "vit")
    change(folder, **settings)
    assert_refused(folder, message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"architecture": "vit_base_patch16_clip_quickgelu_224"},
            "states norm_pre True, but the tensors beside it have False",
        ),
        ({"architecture": "vit_base_patch14_reg4_dinov2"}, "is not one of timm's plain ViTs"),
        ({"architecture": "vit_base_patch16_siglip_224"}, "is not one of timm's plain ViTs"),
        ({"model_args": {"img_size": [16, 64]}}, "frames and patches must be square"),
        ({"pretrained_cfg": {"input_size": [3, 16, 64]}}, "frames and patches must be square"),
        ({"model_args": {"act_layer": "quick_gelu"}}, "unknown key 'model_args.act_layer'"),
        ({"model_args": {"global_pool": "avg"}}, "model_args.global_pool = 'avg': input should be 'token' or ''"),
        ({"global_pool": "avg"}, "global_pool = 'avg': input should be 'token' or ''"),
        (
            {"model_args": None},
            'states depth 12, but the tensors beside it have 2; .*num_heads, depth and embed_dim in "model_args"',
        ),
        ({"pretrained_cfg": {"mean": [0.5, 0.5]}}, "pretrained_cfg.mean"),
        ({"pretrained_cfg": {"std": [0, 0.5, 0.5]}}, r"std is \(0.0, 0.5, 0.5\); it must be three numbers from 1e-06"),
    ],
)
def test_settings_of_timm_that_make_another_function_are_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = foreign.save_timm(create_vit(), tmp_path / "vit")
    change(folder, **settings)
    assert_refused(folder, message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_std": [0, 0, 0]}, r"std is \(0.0, 0.0, 0.0\); it must be three numbers from 1e-06"),
        ({"image_mean": [0.5]}, "image_mean takes more values than 1"),
        ({"image_mean": "grey"}, "image_mean = 'grey'"),
        ({"rescale_factor": 0.5}, "rescale_factor = 0.5: input should be less than"),
        ({"do_rescale": False}, "do_rescale = False: input should be True"),
    ],
)
def test_an_image_processor_that_we_cannot_follow_is_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = foreign.save_transformers_vit(create_vit(), tmp_path / "vit")
    change(folder, "preprocessor_config.json", **settings)
    assert_refused(folder, message)


def test_a_size_may_be_given_as_rows_and_columns(tmp_path: Path) -> None:
    folder = foreign.save_transformers_vit(create_vit(), tmp_path / "vit")
    change(folder, image_size=[32, 32])
    assert open_source(folder).config.image_size_px == 32


def test_an_image_processor_that_does_not_normalise_is_followed(tmp_path: Path) -> None:
    folder = foreign.save_transformers_vit(create_vit(), tmp_path / "vit")
    change(folder, "preprocessor_config.json", do_normalize=False)
    config = open_source(folder).config
    assert (config.mean, config.std) == ((0, 0, 0), (1, 1, 1))


def test_a_plain_vit_of_timm_has_the_heads_of_its_name(tmp_path: Path) -> None:
    state = {name: torch.zeros(shape) for name, shape in _tiny_vit().items()}
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {}}')
    source = open_source(tmp_path)
    assert config_of(source.config).num_heads == 3 and source.not_stated == {"mean", "std", "heads"}


def _tiny_vit() -> dict[str, tuple[int, ...]]:
    model = create_model("timesformer_tiny", depth=12, attention="space_only", image_size=32, heads={"head": 2})
    return {name.replace("heads.head", "head"): tuple(part.shape) for name, part in model.state_dict().items()}


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", ["{", "[1]", "[" * 10**5, '{"a":' * 10**5, "\0", "\ufeff{", '"' + "a" * 10**6])
def test_json_that_is_damaged_or_hostile_is_one_line(content: str, file: str, tmp_path: Path) -> None:
    folder = foreign.save_transformers_vit(create_vit(), tmp_path / "vit")
    (folder / file).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        open_source(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder / file} ") and "\n" not in message and len(message) < 400


@pytest.mark.parametrize(
    "labels", ['{"0": "\\ud800"}', '{"0": null}', '["cat"]', '{"0": ["cat"]}', '"' + "a" * 10**6 + '"']
)
def test_labels_that_are_no_names_are_one_short_line(labels: str, tmp_path: Path) -> None:
    folder = foreign.save_transformers_vit(create_vit(), tmp_path / "vit")
    (folder / "config.json").write_text('{"model_type": "vit", "id2label": ' + labels + "}")
    with pytest.raises(CheckpointError) as caught:
        open_source(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_settings_of_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    vit = create_vit()
    path = foreign.save_jax(vit, tmp_path / "vit.npz")
    (tmp_path / "config.json").write_text('{"model_type": "vit", "num_attention_heads": 4, "id2label": {"0": "cat"}}')
    assert config_of(open_source(path).config).num_heads == 2
    np.savez(tmp_path / "again.npz", **dict(np.load(path)))
    (tmp_path / "config.json").write_text("not JSON")
    assert config_of(open_source(tmp_path / "again.npz").config).num_heads == 2
