"""Weights of other code: those of transformers and in the official names in, and transformers' out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.vjepa2.vjepas import by_our_names, clips, create_oracle, oracle_logits, small_model
from torch import Tensor
from transformers import VJEPA2ForVideoClassification, VJEPA2Model
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from cover.errors import CheckpointError, CoverError
from cover.models.export.formats import export_for
from cover.models.export.graph import fit
from cover.models.export.onnx_torch import export_onnx, export_torch
from cover.models.info import describe, info_table
from cover.models.loading import load_weights
from cover.models.sources import open_source

LABELS = ("cat", "dog", "köpfen", "owl", "yak")


def encoder_state(version: str = "2", prefix: str = "module.backbone.") -> dict[str, Tensor]:
    """An encoder in the official names."""
    variant = "vjepa2_1_large" if version == "2.1" else "vjepa2_large"
    state = small_model(variant, head="linear", heads={}).state_dict()
    if version == "2.1":
        state |= {f"norms_block.{n}.{kind}": torch.ones(48) for n in range(3) for kind in ("weight", "bias")}
        state = {
            name.replace("norm.", "norms_block.3.") if name[:5] == "norm." else name: t for name, t in state.items()
        }
    return {prefix + name: tensor for name, tensor in state.items()}


def predictor_state() -> dict[str, Tensor]:
    names = "predictor_blocks.0.attn.qkv.weight", "predictor_blocks.0.norm1.weight", "predictor_embed.weight"
    return {f"module.backbone.{name}": torch.zeros(4, 4) for name in names}


def probe_state() -> dict[str, Tensor]:
    state = by_our_names(create_oracle().state_dict(), "head")
    parts = {name: tensor for name, tensor in state.items() if name.startswith(("pooler.", "heads."))}
    return {f"module.{name.replace('heads.head', 'linear')}": tensor for name, tensor in parts.items()}


def test_classifiers_of_transformers_load_whole(tmp_path: Path) -> None:
    oracle = create_oracle(id2label=dict(enumerate(LABELS)))
    oracle.save_pretrained(tmp_path)
    VideoMAEImageProcessorPil(image_mean=[0.4, 0.5, 0.6], image_std=[0.2] * 3).save_pretrained(tmp_path)
    model = small_model(heads={"head": LABELS})
    report = load_weights(model, tmp_path)
    assert report.format == "transformers-vjepa2" and len(report.loaded) == len(model.state_dict())
    assert not (report.fresh or report.resized or report.copied)
    assert all("predictor" in name for name in report.unused)
    assert model.config.mean == (0.4, 0.5, 0.6)
    for num_frames in (1, 4):
        frames = clips(num_frames, 2)
        with torch.no_grad():
            found, expected = model({"head": frames})["head"], oracle_logits(oracle, frames)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert open_source(tmp_path).config == model.config


def test_a_video_processor_states_the_normalisation(tmp_path: Path) -> None:
    create_oracle().save_pretrained(tmp_path)
    (tmp_path / "video_preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}')
    assert open_source(tmp_path).config.mean == (0.1, 0.2, 0.3)


def test_encoders_of_transformers_load_with_fresh_heads(tmp_path: Path) -> None:
    oracle = create_oracle()
    VJEPA2Model.save_pretrained(oracle.vjepa2, tmp_path)
    model = small_model(head="linear")
    report = load_weights(model, tmp_path)
    assert report.fresh == ["heads.k400.weight", "heads.k400.bias"]
    frames = clips(4, 2)
    with torch.no_grad():
        expected = oracle.vjepa2(frames.transpose(0, 1), skip_predictor=True).last_hidden_state.mean(1)
        torch.testing.assert_close(model.features(frames), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("version", ["2", "2.1"])
def test_official_encoders_load_and_the_target_encoder_comes_first(tmp_path: Path, version: str) -> None:
    encoder, target = encoder_state(version), encoder_state(version)
    state = {"encoder": encoder, "predictor": predictor_state(), "target_encoder": target, "opt": {}, "epoch": 3}
    torch.save(state, tmp_path / "vitl.pt")
    variant = "vjepa2_1_large" if version == "2.1" else "vjepa2_large"
    for key, expected in (("", target), ("#encoder", encoder)):
        model = small_model(variant)
        report = load_weights(model, f"{tmp_path / 'vitl.pt'}{key}")
        assert report.format == ("vjepa2.1" if version == "2.1" else "vjepa2")
        assert {name.partition(".")[0] for name in report.fresh} == {"pooler", "heads"}
        assert "num_heads: not stated by the file; taken from the model (2)" in str(report)
        assert torch.equal(
            model.state_dict()["blocks.1.attn.qkv.bias"], expected["module.backbone.blocks.1.attn.qkv.bias"]
        )
        last = "norms_block.3.weight" if version == "2.1" else "norm.weight"
        assert torch.equal(model.state_dict()["norm.weight"], expected[f"module.backbone.{last}"])
    other = small_model("vjepa2_large" if version == "2.1" else "vjepa2_1_large")
    with pytest.raises(CheckpointError, match="has version 2"):
        load_weights(other, tmp_path / "vitl.pt")


def test_a_probe_is_loaded_into_a_model_that_has_its_encoder(tmp_path: Path) -> None:
    """The encoder and the probe of one oracle, from two files in the official names, give its logits."""
    torch.manual_seed(0)
    oracle = create_oracle()
    theirs = by_our_names(oracle.state_dict(), "head")
    encoder = {f"module.{n}": t for n, t in theirs.items() if not n.startswith(("pooler.", "heads."))}
    probe = {
        f"module.{n.replace('heads.head', 'linear')}": t for n, t in theirs.items() if f"module.{n}" not in encoder
    }
    torch.save({"target_encoder": encoder}, tmp_path / "vitl.pt")
    torch.save({"classifiers": [probe, probe_state()], "opt": [{"state": {0: {"exp_avg": torch.ones(2)}}}]},
               tmp_path / "probe.pt")  # fmt: skip
    model, frames = small_model(heads={"head": 5}), clips(4, 2)
    load_weights(model, tmp_path / "vitl.pt")
    report = load_weights(model, tmp_path / "probe.pt")
    assert report.format == "vjepa2-probe" and "model: classifiers.0" in str(report)
    assert {name.partition(".")[0] for name in report.loaded} == {"pooler", "heads"} and not report.unused
    assert model.config.pooler and model.config.pooler.eps == 1e-5
    for module in oracle.pooler.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5
    with torch.no_grad():
        found, expected = model({"head": frames})["head"], oracle_logits(oracle, frames)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    rows = {str(c) for column in info_table(describe(tmp_path / "probe.pt")).columns for c in column.cells}
    assert "a probe without its encoder, a V-JEPA of width 48; load the encoder first" in rows and "not stated" in rows


def test_files_that_no_model_computes_are_refused(tmp_path: Path) -> None:
    scaled = encoder_state() | {"module.backbone.blocks.0.ls1.gamma": torch.ones(48)}
    torch.save({"encoder": scaled}, tmp_path / "scaled.pt")
    with pytest.raises(CheckpointError, match="gamma has no place in a model of the family vjepa2"):
        open_source(tmp_path / "scaled.pt")
    oracle = create_oracle()
    oracle.config.hidden_act = "gelu_new"
    oracle.save_pretrained(tmp_path / "tanh")
    with pytest.raises(CheckpointError, match="hidden_act"):
        open_source(tmp_path / "tanh")


@pytest.mark.filterwarnings("ignore")
def test_it_is_exported_to_transformers_and_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = small_model(heads={"k400": LABELS, "imagenet": 3})
    export_for("transformers", model, tmp_path / "theirs", "k400")
    assert not caplog.messages
    oracle: Any = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "theirs").eval()
    assert oracle.config.id2label[2] == "köpfen"
    for num_frames in (1, 4):
        frames = clips(num_frames, 2)
        with torch.no_grad():
            found, expected = oracle_logits(oracle, frames), model({"k400": frames})["k400"]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    again = small_model(heads={"head": LABELS})
    assert not load_weights(again, tmp_path / "theirs").fresh
    model.normalise_as(replace(model.config, pooler=replace(model.config.pooler, eps=1e-5)))  # type: ignore[type-var]
    export_for("transformers", model, tmp_path / "other", "k400")
    assert "logits may differ by about 1e-4" in caplog.text


@pytest.mark.parametrize(
    ("variant", "settings", "message"),
    [
        ("vjepa2_large", {"head": "linear"}, "has an attentive head, this model a linear one; export with --to"),
        ("vjepa2_1_large", {}, "transformers has V-JEPA 2, and this is V-JEPA 2.1"),
        ("vjepa2_large", {"pooler_heads": 3}, "in this model 3 and 2"),
    ],
)
def test_what_transformers_cannot_express_is_refused(
    variant: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CoverError, match=message):
        export_for("transformers", small_model(variant, **settings), tmp_path / "theirs", "k400")


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["vjepa2_large", "vjepa2_1_large"])
def test_it_is_exported_as_a_file_that_runs_by_itself(tmp_path: Path, variant: str) -> None:
    for num_frames in (4, 1):
        fitted = fit(small_model(variant), num_frames=num_frames)
        export_onnx(fitted, tmp_path / f"onnx{num_frames}")  # which compares the logits
        export_torch(fitted, tmp_path / f"torch{num_frames}")
