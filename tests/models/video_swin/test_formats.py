"""Weights by the names of each code base load with a full report, and give the logits of that code base."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.video_swin.oracle import SMALL, create_oracle, oracle_logits, our_weights
from torch import Tensor
from transformers import SwinConfig, SwinForImageClassification

from cover.errors import CheckpointError
from cover.models.classifier import VideoClassifier
from cover.models.create import create_model
from cover.models.info import describe
from cover.models.loading import load_weights
from cover.models.sources import open_source
from cover.models.video_swin.config import VideoSwinConfig
from cover.models.video_swin.torchvision import export_torchvision, relative_position_index, torchvision_tensors

WINDOW = (4, 3, 3)
SIZE_PX = 24
Tensors = dict[str, Tensor]


def video_model(window: tuple[int, int, int] = WINDOW) -> VideoClassifier:
    torch.manual_seed(0)
    model = create_model("video_swin_tiny", **SMALL, window=window, image_size=SIZE_PX, heads={"head": 5})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def published(model: VideoClassifier) -> Tensors:
    """The tensors of a Video Swin by the names of the published code, which keeps indices beside the weights."""
    index = relative_position_index(WINDOW)
    tensors = {f"backbone.{name}": tensor for name, tensor in model.state_dict().items() if "heads" not in name}
    indices = {name.replace("bias_table", "index"): index for name in tensors if name.endswith("bias_table")}
    head = {f"cls_head.fc_cls.{kind}": model.state_dict()[f"heads.head.{kind}"] for kind in ("weight", "bias")}
    return tensors | indices | head


def mmaction2(model: VideoClassifier) -> Tensors:
    """Its newest version calls the final norm `norm3`."""
    return {re.sub(r"^backbone\.norm\.", "backbone.norm3.", name): t for name, t in published(model).items()}


def omnivore(model: VideoClassifier) -> Tensors:
    """It has patches of depth images, too. Its heads are in another dictionary."""
    tensors = {name: tensor for name, tensor in mmaction2(model).items() if not name.startswith("cls_head")}
    tensors = {name.removeprefix("backbone.").replace("norm3", "norm"): tensor for name, tensor in tensors.items()}
    return tensors | {"depth_patch_embed.proj.weight": torch.ones(16, 1, 2, 4, 4)}


def torchvision(model: VideoClassifier) -> Tensors:
    return torchvision_tensors(model, "head")


@pytest.mark.parametrize(
    ("make", "format"),
    [(published, "video-swin"), (mmaction2, "video-swin"), (torchvision, "torchvision-video-swin")],
)
def test_weights_of_a_video_swin_load(make: Callable[[VideoClassifier], Tensors], format: str, tmp_path: Path) -> None:
    model = video_model()
    torch.save({"state_dict": make(model), "meta": {"epoch": 30}}, tmp_path / "swin.pth")
    source = open_source(tmp_path / "swin.pth")
    assert isinstance(source.config, VideoSwinConfig)
    assert source.config.window == WINDOW and source.config.depths == (2, 2) and source.config.num_heads == (1, 2)
    other = create_model("video_swin_tiny", **SMALL, window=WINDOW, image_size=SIZE_PX, heads={"head": 5}).eval()
    report = load_weights(other, source)
    assert report.format == format and {*report.outcomes()} == {"loaded", "unused"}
    assert all(name.endswith("relative_position_index") for name in report.unused)
    frames = torch.randn(8, 2, 3, SIZE_PX, SIZE_PX)
    torch.testing.assert_close(other.predict(frames)["head"], model.predict(frames)["head"], atol=0, rtol=0)


def test_the_trunk_of_omnivore_loads(tmp_path: Path) -> None:
    model = video_model()
    heads = {"image.weight": torch.ones(1000, 32), "video.1.weight": torch.ones(400, 32)}
    torch.save({"trunk": omnivore(model), "heads": heads}, tmp_path / "swinB_checkpoint.torch")
    source = open_source(tmp_path / "swinB_checkpoint.torch")
    assert source.format == "omnivore" and not source.config.heads
    other = create_model("video_swin_tiny", **SMALL, window=WINDOW, image_size=SIZE_PX, heads={"head": 5})
    load_weights(other, source)
    frames = torch.randn(8, 2, 3, SIZE_PX, SIZE_PX)
    torch.testing.assert_close(other.eval().features(frames), model.features(frames), atol=0, rtol=0)


def test_torchvision_loads_what_is_exported_for_it_and_the_other_way_round(tmp_path: Path) -> None:
    oracle = create_oracle(WINDOW).eval()
    model = video_model()
    export_torchvision(model, tmp_path / "torchvision")
    settings = json.loads((tmp_path / "torchvision" / "config.json").read_text())
    theirs = type(oracle)(**settings["arguments"]).eval()
    theirs.load_state_dict(load_file(tmp_path / "torchvision" / "model.safetensors"))
    frames = torch.randn(8, 2, 3, SIZE_PX, SIZE_PX)
    torch.testing.assert_close(oracle_logits(theirs, frames), model.predict(frames)["head"], atol=1e-5, rtol=0)
    torch.save(oracle.state_dict(), tmp_path / "swin.pth")
    load_weights(model, tmp_path / "swin.pth")
    torch.testing.assert_close(model.predict(frames)["head"], oracle_logits(oracle, frames), atol=1e-5, rtol=1e-5)
    assert torch.equal(model.state_dict()["norm.weight"], our_weights(oracle)["norm.weight"])


@pytest.fixture(scope="module")
def image_swin() -> SwinForImageClassification:
    torch.manual_seed(0)
    labels: dict[str, Any] = {"id2label": dict(enumerate(["cat", "dog", "owl", "elk", "bee"]))}
    config = SwinConfig(image_size=24, embed_dim=16, depths=[2, 2], num_heads=[1, 2], window_size=3, **labels)
    swin = SwinForImageClassification(config)
    for parameter in swin.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    swin.eval()
    return swin


def image_tensors(swin: SwinForImageClassification, folder: Path) -> Tensors:
    """The tensors of an image Swin by the published names."""
    swin.save_pretrained(folder)
    theirs = load_file(folder / "model.safetensors")
    names = {
        r"^swin\.(encoder\.)?": "",
        r"^embeddings\.patch_embeddings\.projection": "patch_embed.proj",
        r"^embeddings\.norm": "patch_embed.norm",
        r"^layernorm\.": "norm.",
        r"layernorm_before": "norm1",
        r"layernorm_after": "norm2",
        r"attention\.self\.relative": "attn.relative",
        r"attention\.output\.dense": "attn.proj",
        r"intermediate\.dense": "mlp.fc1",
        r"output\.dense": "mlp.fc2",
        r"^classifier": "head",
    }
    tensors = {}
    for name, tensor in theirs.items():
        if "attention.self.query" in name:
            parts = [theirs[name.replace("query", part)] for part in ("query", "key", "value")]
            name, tensor = name.replace("attention.self.query", "attn.qkv"), torch.cat(parts)
        for pattern, ours in names.items():
            name = re.sub(pattern, ours, name)
        if "attention.self" not in name:
            tensors[name] = tensor
    return tensors


def save_published(swin: SwinForImageClassification, folder: Path) -> Path:
    torch.save({"model": image_tensors(swin, folder / "theirs")}, folder / "swin.pth")
    return folder / "swin.pth"


def save_timm(swin: SwinForImageClassification, folder: Path) -> Path:
    moved = {
        name.replace("layers.0.downsample", "layers.1.downsample").replace("head.", "head.fc."): tensor.contiguous()
        for name, tensor in image_tensors(swin, folder / "theirs").items()
    }
    save_file(moved, folder / "model.safetensors")
    settings = {
        "architecture": "swin_tiny_patch4_window7_224",
        "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
    }
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def save_torchvision(swin: SwinForImageClassification, folder: Path) -> Path:
    tensors = {}
    for name, tensor in image_tensors(swin, folder / "theirs").items():
        name = re.sub(r"layers\.(\d)\.blocks", lambda match: f"features.{2 * int(match[1]) + 1}", name)
        name = re.sub(r"layers\.(\d)\.downsample", lambda match: f"features.{2 * int(match[1]) + 2}", name)
        name = name.replace("patch_embed.proj", "features.0.0").replace("patch_embed.norm", "features.0.2")
        tensors[name.replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")] = tensor
    torch.save(tensors, folder / "swin_t.pth")
    return folder / "swin_t.pth"


def save_transformers(swin: SwinForImageClassification, folder: Path) -> Path:
    swin.save_pretrained(folder)
    return folder


def save_in_memory_names(swin: SwinForImageClassification, folder: Path) -> Path:
    torch.save(swin.state_dict(), folder / "swin.pth")
    return folder / "swin.pth"


@pytest.mark.parametrize(
    ("save", "format"),
    [
        (save_published, "swin"),
        (save_timm, "timm-swin"),
        (save_torchvision, "torchvision-swin"),
        (save_transformers, "transformers-swin"),
        (save_in_memory_names, "transformers-swin"),
    ],
)
def test_weights_of_an_image_swin_load(
    save: Callable[[SwinForImageClassification, Path], Path],
    format: str,
    image_swin: SwinForImageClassification,
    tmp_path: Path,
) -> None:
    path = save(image_swin, tmp_path)
    source = open_source(path)
    assert source.format == format and isinstance(source.config, VideoSwinConfig)
    assert source.config.window == (1, 3, 3) and source.config.num_frames == 1 and source.config.image_size_px == 24
    assert source.config.mean[0] == (0.5 if format == "timm-swin" else 0.485)
    if format == "transformers-swin" and path == tmp_path:
        assert source.config.heads["head"][:2] == ("cat", "dog")
    model = video_model((1, 3, 3))
    report = load_weights(model, source, fresh_heads=True)
    model.heads["head"].load_state_dict(image_swin.classifier.state_dict())
    assert {*report.outcomes()} <= {"loaded", "fresh", "unused"} and len(report.fresh) == 2
    images = torch.randn(2, 3, SIZE_PX, SIZE_PX)
    expected = image_swin(images).logits
    torch.testing.assert_close(model.predict(images[None])["head"], expected, atol=1e-5, rtol=1e-5)


def test_info_describes_the_weights(image_swin: SwinForImageClassification, tmp_path: Path) -> None:
    described = describe(save_transformers(image_swin, tmp_path))
    assert described.config.describe() == (
        "shifted windows of 1 × 3 × 3 tokens, 2 + 2 blocks, width 16 to 32, 1 + 2 heads, tubelets of 2 × 4 × 4"
    )
    # The patch kernel of a video has two slices.
    assert described.num_parameters == sum(p.numel() for p in image_swin.parameters()) + 16 * 3 * 4 * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act = 'relu'"),
        ({"use_absolute_embeddings": True}, "use_absolute_embeddings = True"),
        ({"mlp_ratio": 2.0}, "mlp_ratio = 2.0"),
    ],
)
def test_a_swin_that_computes_something_else_is_refused(
    settings: dict[str, object], message: str, image_swin: SwinForImageClassification, tmp_path: Path
) -> None:
    image_swin.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text()) | settings
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=message) as error:
        open_source(tmp_path)
    assert "\n" not in str(error.value)


def test_a_missing_or_foreign_tensor_is_refused(tmp_path: Path) -> None:
    tensors = published(video_model())
    del tensors["backbone.layers.1.blocks.1.norm2.bias"]
    torch.save(tensors, tmp_path / "missing.pth")
    with pytest.raises(CheckpointError, match=r"layers\.1\.blocks\.1\.norm2\.bias is absent"):
        open_source(tmp_path / "missing.pth")
    torch.save(published(video_model()) | {"backbone.absolute_pos_embed": torch.ones(1, 4)}, tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match=r"backbone\.absolute_pos_embed has no place in a model of the family"):
        open_source(tmp_path / "more.pth")
