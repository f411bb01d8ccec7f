"""Weights by the names of each code base load with a full report, and give the logits of that code base."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.models.mvit.golden_image import FILE as GOLDEN_IMAGE
from tests.models.mvit.golden_image import SIZE_PX, SIZES
from tests.models.mvit.oracle import create_oracle, oracle_logits, small_config
from tests.models.torchvisions import torchvision_module
from torch import Tensor

from cover.errors import CheckpointError, CoverError
from cover.models.classifier import VideoClassifier
from cover.models.create import create_model
from cover.models.info import describe
from cover.models.loading import load_weights
from cover.models.mvit.config import MViTConfig
from cover.models.mvit.torchvision import export_torchvision, torchvision_tensors
from cover.models.sources import open_source

Tensors = dict[str, Tensor]
VERSIONS = ("mvitv1_base", "mvitv2_small")


def video_model(variant: str = "mvitv2_small", **settings: Any) -> VideoClassifier:
    torch.manual_seed(0)
    model = VideoClassifier(small_config(variant, heads=["head"], **settings))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def published(model: VideoClassifier) -> Tensors:
    return {name.replace("heads.head", "head.projection"): tensor for name, tensor in model.state_dict().items()}


def torchvision(model: VideoClassifier) -> Tensors:
    return torchvision_tensors(model, "head")


@pytest.mark.parametrize("variant", VERSIONS)
@pytest.mark.parametrize("widen_in", ["attention", "mlp"])
@pytest.mark.parametrize(("make", "format"), [(published, "mvit"), (torchvision, "torchvision-mvit")])
def test_weights_of_a_video_model_load(make: Any, format: str, widen_in: str, variant: str, tmp_path: Path) -> None:
    model = video_model(variant, widen_in=widen_in)
    torch.save({"epoch": 200, "model_state": make(model), "optimizer_state": {}}, tmp_path / "mvit.pyth")
    source = open_source(tmp_path / "mvit.pyth")
    config = source.config
    assert isinstance(config, MViTConfig) and source.format == format and not source.others
    assert (config.version, config.widen_in, config.class_token) == (model.config.version, widen_in, True)  # type: ignore[attr-defined]
    assert (config.width, config.depths, config.num_heads) == (8, (1, 2, 1), 1)
    assert (config.num_frames, config.image_size_px, config.mean) == (8, 32, (0.45, 0.45, 0.45))
    other = VideoClassifier(small_config(variant, heads=["head"], widen_in=widen_in)).eval()
    report = load_weights(other, source)
    assert {*report.outcomes()} == {"loaded"} and any("normalisation" in note for note in report.notes)
    frames = torch.randn(8, 2, 3, 32, 32)
    torch.testing.assert_close(other.predict(frames)["head"], model.predict(frames)["head"], atol=0, rtol=0)


@pytest.mark.parametrize("variant", VERSIONS)
def test_torchvision_loads_what_is_exported_for_it_and_the_other_way_round(variant: str, tmp_path: Path) -> None:
    model = video_model(variant)
    export_torchvision(model, tmp_path / "torchvision")
    module = torchvision_module("torchvision.models.video.mvit")
    arguments = json.loads((tmp_path / "torchvision" / "config.json").read_text())["arguments"]
    arguments["block_setting"] = [module.MSBlockConfig(**block) for block in arguments["block_setting"]]
    arguments["spatial_size"] = tuple(arguments["spatial_size"])
    theirs = module.MViT(**arguments).eval()
    theirs.load_state_dict(load_file(tmp_path / "torchvision" / "model.safetensors"))
    frames = torch.randn(8, 2, 3, 32, 32)
    torch.testing.assert_close(oracle_logits(theirs, frames), model.predict(frames)["head"], atol=1e-5, rtol=1e-5)
    oracle = create_oracle(small_config(variant)).eval()
    torch.save(oracle.state_dict(), tmp_path / "mvit.pth")
    load_weights(model, tmp_path / "mvit.pth")
    torch.testing.assert_close(model.predict(frames)["head"], oracle_logits(oracle, frames), atol=1e-5, rtol=1e-5)


def test_torchvision_has_no_model_without_a_class_token(tmp_path: Path) -> None:
    with pytest.raises(CoverError, match="torchvision's MViT is for videos and has a class token"):
        export_torchvision(video_model(class_token=False), tmp_path / "torchvision")


@pytest.fixture(scope="module")
def golden() -> Tensors:
    """The official image MViT: its tensors, images and logits (see golden_image.py)."""
    return load_file(GOLDEN_IMAGE)


def official(golden: Tensors) -> Tensors:
    return {name.removeprefix("model."): tensor for name, tensor in golden.items() if name.startswith("model.")}


def timm(golden: Tensors) -> Tensors:
    """The same by the names of timm, which counts blocks by stage."""
    starts = [(stage, sum(SIZES["depths"][:stage])) for stage in range(len(SIZES["depths"]))]

    def by_stage(match: re.Match[str]) -> str:
        stage, start = max((stage, start) for stage, start in starts if start <= int(match[1]))
        return f"stages.{stage}.blocks.{int(match[1]) - start}."

    tensors = {}
    for name, tensor in official(golden).items():
        name = re.sub(r"^(blocks\.\d+)\.proj\.", r"\1.shortcut_proj_attn.", name).replace("head.projection", "head.fc")
        tensors[re.sub(r"^blocks\.(\d+)\.", by_stage, name)] = tensor
    return tensors


@pytest.mark.parametrize(("make", "format"), [(official, "image-mvit"), (timm, "timm-mvit")])
def test_weights_of_an_image_model_load(make: Any, format: str, golden: Tensors, tmp_path: Path) -> None:
    torch.save({"model_state": make(golden)}, tmp_path / "mvit.pyth")
    source = open_source(tmp_path / "mvit.pyth")
    config = source.config
    assert isinstance(config, MViTConfig) and source.format == format and not source.others
    assert config.images_only and not config.class_token and config.depths == SIZES["depths"]
    assert (config.image_size_px, config.kv_stride, config.num_heads) == (SIZE_PX, 4, 1)
    model = VideoClassifier(config).eval()
    report = load_weights(model, source)
    assert {*report.outcomes()} == {"loaded"}
    found = model.predict(golden["images"][None])["head"]
    torch.testing.assert_close(found, golden["logits"], atol=1e-5, rtol=1e-5)


def test_a_model_of_videos_starts_from_the_official_image_model(golden: Tensors, tmp_path: Path) -> None:
    torch.save({"model_state": official(golden)}, tmp_path / "mvit.pyth")
    settings: dict[str, Any] = SIZES | {"class_token": True, "num_frames": 8, "image_size": 32}
    model = create_model("mvitv2_small", **settings, heads={"k400": 5})
    report = load_weights(model, tmp_path / "mvit.pyth")
    fresh = {name.rpartition("attn.")[2] for name in report.fresh}
    assert fresh == {"cls_token", "rel_pos_t", "heads.k400.weight", "heads.k400.bias"}
    assert report.unused == ["head.projection.bias", "head.projection.weight"]
    assert {name.rpartition(".")[2] for name in report.resized} == {"weight", "rel_pos_h", "rel_pos_w"}
    kernel = golden["model.blocks.3.attn.pool_q.weight"][:, :, None] / 3
    assert torch.equal(model.state_dict()["blocks.3.attn.pool_q.weight"], kernel.expand(-1, -1, 3, -1, -1))


def test_info_describes_the_weights(tmp_path: Path) -> None:
    model = video_model()
    torch.save({"model_state": published(model)}, tmp_path / "mvit.pyth")
    described = describe(tmp_path / "mvit.pyth")
    assert described.config.describe() == "MViT v2, 1 + 2 + 1 blocks, width 8 to 32, 1 to 4 heads"
    assert described.num_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_weights_of_another_width_or_version_are_refused(tmp_path: Path) -> None:
    torch.save({"model_state": published(video_model())}, tmp_path / "mvit.pyth")
    with pytest.raises(CheckpointError, match="has version 2 and widen_in attention, this"):
        load_weights(video_model("mvitv1_base"), tmp_path / "mvit.pyth")
    with pytest.raises(CheckpointError, match="widen_in attention, this model has mlp"):
        load_weights(video_model(widen_in="mlp"), tmp_path / "mvit.pyth")


def test_a_missing_or_foreign_tensor_is_refused(tmp_path: Path) -> None:
    tensors = published(video_model())
    del tensors["blocks.1.attn.norm_v.bias"]
    torch.save({"model_state": tensors}, tmp_path / "missing.pyth")
    with pytest.raises(CheckpointError, match=r"blocks\.1\.attn\.norm_v\.bias is absent"):
        open_source(tmp_path / "missing.pyth")
    more = published(video_model()) | {"norm_stem.weight": torch.ones(8)}
    torch.save({"model_state": more}, tmp_path / "more.pyth")
    with pytest.raises(CheckpointError, match=r"norm_stem\.weight has no place in a model of the family mvit"):
        open_source(tmp_path / "more.pyth")
