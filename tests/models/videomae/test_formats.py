"""Weights of other code: those of transformers and of the official repository in, and transformers' out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.foreign import create_vit, save_jax, save_transformers_vit, timm_state
from tests.models.videomae.videomaes import by_our_names, clips, create_oracle, oracle_logits, small_model
from torch import Tensor
from transformers import VideoMAEForPreTraining, VideoMAEForVideoClassification
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from cover.errors import CheckpointError, CoverError
from cover.models.classifier import save_model
from cover.models.create import create_model
from cover.models.export.formats import export_for
from cover.models.export.graph import fit
from cover.models.export.onnx_torch import export_onnx, export_torch
from cover.models.info import describe
from cover.models.kernels.residual import Residual, Tokens
from cover.models.loading import load_weights
from cover.models.packing import Group
from cover.models.sources import open_source

LABELS = ("cat", "dog", "köpfen", "owl", "yak")


def official_state(oracle: VideoMAEForVideoClassification) -> dict[str, Tensor]:
    return {name.replace("heads.head", "head"): t for name, t in by_our_names(oracle.state_dict(), "head").items()}


def with_official_epsilons(oracle: VideoMAEForVideoClassification) -> VideoMAEForVideoClassification:
    for module in oracle.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
    return oracle


def test_files_of_transformers_load_whole(tmp_path: Path) -> None:
    oracle = create_oracle(id2label=dict(enumerate(LABELS)))
    oracle.save_pretrained(tmp_path)
    VideoMAEImageProcessorPil(image_mean=[0.4, 0.5, 0.6], image_std=[0.2] * 3).save_pretrained(tmp_path)
    model = small_model(heads={"head": LABELS})
    report = load_weights(model, tmp_path)
    assert report.format == "transformers-videomae" and len(report.loaded) == len(model.state_dict())
    assert not (report.fresh or report.unused or report.resized or report.copied)
    assert model.config.mean == (0.4, 0.5, 0.6) and model.config.layer_norm_eps == 1e-12
    frames = clips(4, 2)
    with torch.no_grad():
        torch.testing.assert_close(model({"head": frames})["head"], oracle_logits(oracle, frames), atol=1e-5, rtol=0)
    assert open_source(tmp_path).config == model.config


@pytest.mark.parametrize("key", ["module", "model", ""])
def test_official_files_load_whole_with_their_epsilons(tmp_path: Path, key: str) -> None:
    oracle = with_official_epsilons(create_oracle())
    state = official_state(oracle)
    torch.save({key: state, "epoch": 3} if key else state, tmp_path / "official.pth")
    model = small_model(heads={"head": 5})
    report = load_weights(model, tmp_path / "official.pth")
    assert report.format == "videomae" and len(report.loaded) == len(model.state_dict()) and not report.unused
    assert "num_heads: not stated by the file; taken from the model (2)" in str(report)
    frames = clips(4, 2)
    with torch.no_grad():
        torch.testing.assert_close(model({"head": frames})["head"], oracle_logits(oracle, frames), atol=1e-5, rtol=0)


def test_pretrained_encoders_load_without_the_decoder_and_with_a_fresh_norm(tmp_path: Path) -> None:
    oracle = create_oracle()
    state = {f"encoder.{name}": t for name, t in official_state(oracle).items() if not name.startswith(("fc_", "head"))}
    decoder = {f"decoder.blocks.0.{name}": torch.zeros(3 * 8, 8) for name in ("attn.qkv.weight",)}
    others = {"encoder.norm.weight": torch.ones(24), "mask_token": torch.ones(1, 1, 8)}
    torch.save({"model": state | decoder | others}, tmp_path / "official.pth")
    theirs = VideoMAEForPreTraining(replace_pooling(oracle))
    theirs.videomae.load_state_dict(oracle.videomae.state_dict(), strict=False)
    theirs.save_pretrained(tmp_path / "transformers")
    for path in (tmp_path / "official.pth", tmp_path / "transformers"):
        model = small_model()
        report = load_weights(model, path)
        assert {*report.fresh} == {"fc_norm.weight", "fc_norm.bias", "heads.k400.weight", "heads.k400.bias"}
        assert len(report.loaded) == len(model.state_dict()) - 4
        assert any("decoder" in name for name in report.unused) or path.suffix == ".pth"
        expected = by_our_names(oracle.state_dict())["blocks.1.attn.qkv.weight"]
        assert torch.equal(model.state_dict()["blocks.1.attn.qkv.weight"], expected)


def replace_pooling(oracle: VideoMAEForVideoClassification) -> Any:
    """The settings as the published encoders have them, whose last norm fine-tuning drops."""
    values = oracle.config.to_dict() | {"use_mean_pooling": False, "decoder_hidden_size": 24}
    return type(oracle.config)(**values | {"decoder_num_attention_heads": 2, "decoder_num_hidden_layers": 1})


def test_a_classifier_of_the_first_token_is_refused(tmp_path: Path) -> None:
    oracle = create_oracle(use_mean_pooling=False)
    oracle.save_pretrained(tmp_path / "transformers")
    state = {name.replace("fc_norm", "norm"): t for name, t in official_state(create_oracle()).items()}
    torch.save({"module": state}, tmp_path / "official.pth")
    for name in ("transformers", "official.pth"):
        with pytest.raises(
            CheckpointError, match=r"fits no model \(its classifier reads the first token, not the mean"
        ):
            open_source(tmp_path / name)


def test_layer_scale_is_refused(tmp_path: Path) -> None:
    state = official_state(create_oracle()) | {"blocks.0.gamma_1": torch.ones(24)}
    torch.save({"module": state}, tmp_path / "scaled.pth")
    with pytest.raises(CheckpointError, match="gamma_1 has no place in a model of the family videomae"):
        open_source(tmp_path / "scaled.pth")


def test_info_describes_a_file(tmp_path: Path) -> None:
    torch.save({"module": official_state(create_oracle())}, tmp_path / "official.pth")
    info = describe(tmp_path / "official.pth")
    assert info.origin == "the official VideoMAE" and info.not_stated == ("heads", "mean", "num_heads", "std")
    assert "VideoMAE, joint attention, 2 blocks, width 24, heads not stated" in info.config.describe(info.not_stated)


@pytest.mark.parametrize("kind", ["transformers", "timm", "jax", "cover"])
def test_a_model_starts_from_a_plain_image_model(tmp_path: Path, kind: str) -> None:
    """An image embeds as before, and blocks compute the same; positions, class token and classifier are left."""
    torch.manual_seed(0)
    vit = create_vit()
    if kind == "timm":
        torch.save(timm_state(vit), tmp_path / "vit.pth")
    elif kind == "jax":
        save_jax(vit, tmp_path / "vit.npz").rename(tmp_path / "vit.pth")  # a file's name does not matter
    else:
        save_transformers_vit(vit, tmp_path / ("vit.pth" if kind == "transformers" else "theirs"))
    if kind == "cover":  # a run of the policy "pretrain"
        ours = create_model(depth=2, width=128, num_heads=2, image_size=32, attention="space_only", heads={})
        load_weights(ours, tmp_path / "theirs")
        save_model(ours, tmp_path / "vit.pth")
    model = create_model("videomae_small", depth=2, width=128, num_heads=2, image_size=32, heads={"k400": 5})
    report = load_weights(model, tmp_path / "vit.pth")
    assert report.format == ("cover" if kind == "cover" else f"{kind}-vit") and report.fresh == [
        "heads.k400.weight",
        "heads.k400.bias",
    ]
    assert any("cls" in name for name in report.unused)
    image = clips(1, 2)
    kernel = model.state_dict()["patch_embed.proj.weight"]
    embedded = torch.nn.functional.conv2d(image[0], kernel.sum(2), model.state_dict()["patch_embed.proj.bias"], 16)
    torch.testing.assert_close(embedded, vit.vit.embeddings.patch_embeddings.projection(image[0]))
    # Other families read the same file as their own.
    assert open_source(tmp_path / "vit.pth").config.family != model.config.family


def test_a_model_of_videos_is_no_image_model(tmp_path: Path) -> None:
    save_model(create_model(depth=2, width=24, num_heads=2, image_size=32, heads={}), tmp_path / "divided")
    with pytest.raises(CheckpointError, match=r"has weights of timesformer, and model\.family is videomae; set"):
        load_weights(small_model(), tmp_path / "divided")


def test_a_block_computes_what_it_did_in_the_image_model(tmp_path: Path) -> None:
    vit = create_vit()
    torch.save(timm_state(vit), tmp_path / "vit.pth")
    model = create_model("videomae_small", depth=2, width=128, num_heads=2, image_size=32, heads={})
    load_weights(model, tmp_path / "vit.pth")
    tokens = torch.randn(1, 5, 128)
    nothing = Residual(torch.zeros_like(tokens), torch.zeros(128), None, "all")
    out, residual = model.backbone.units()[0](Tokens(tokens), nothing, (Group(1, 1),), (None, None))
    expected = vit.get_submodule("vit.layers.0")(tokens)
    torch.testing.assert_close(out.values + residual.values + residual.bias, expected, atol=1e-4, rtol=0)


def test_ours_to_transformers_to_ours_gives_identical_tensors(tmp_path: Path) -> None:
    model = small_model(heads={"head": LABELS, "other": 3}, drop_path_rate=0.1)
    export_for("transformers", model, tmp_path / "ours", "head")
    theirs = VideoMAEForVideoClassification.from_pretrained(tmp_path / "ours").eval()
    frames = torch.randint(256, (4, 1, 3, 32, 32), dtype=torch.uint8)
    prepare = VideoMAEImageProcessorPil.from_pretrained(tmp_path / "ours")
    pixels = prepare([*frames[:, 0].numpy()], return_tensors="pt", input_data_format="channels_first")["pixel_values"]
    with torch.no_grad():
        torch.testing.assert_close(theirs(pixels).logits, model({"head": frames})["head"], atol=1e-5, rtol=0)
    assert theirs.config.id2label == dict(enumerate(LABELS))
    theirs.save_pretrained(tmp_path / "theirs")
    prepare.save_pretrained(tmp_path / "theirs")
    for folder in ("ours", "theirs"):
        again = small_model(heads={"head": LABELS})
        report = load_weights(again, tmp_path / folder)
        assert not (report.fresh or report.unused or report.resized or report.copied)
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())
        assert again.config == replace(model.config.settled(), drop_path_rate=0, heads={"head": LABELS})


def test_an_export_says_that_transformers_has_another_epsilon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export_for("transformers", create_model("videomae_small", depth=1, heads={"a": 2}), tmp_path / "out")
    assert "transformers adds 1e-05 to the variance in the last norm, this model 1e-06" in caplog.text


def test_programs_compute_the_logits_of_the_model(tmp_path: Path) -> None:
    """The exports check that themselves, to 1e-4, for batches of 1 and 3."""
    model = small_model(depth=1, heads={"k400": 5, "ssv2": 4})
    export_onnx(fit(model, num_frames=4), tmp_path / "onnx")
    export_torch(fit(model, num_frames=1), tmp_path / "torch")
    assert (tmp_path / "onnx" / "model.onnx").exists() and (tmp_path / "torch" / "model.pt2").exists()
    with pytest.raises(CoverError, match="num_frames 3 is not a multiple of 2"):
        fit(small_model(), num_frames=3)
