"""Logits and every gradient equal those of the official ViViTs (scenic), and of transformers' joint ViViT."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.vivit import golden
from tests.models.vivit.vivits import (
    ATTENTION,
    clips,
    create_oracle,
    golden_model,
    oracle_logits,
    save_arrays,
    small_model,
)
from torch import Tensor
from transformers import VivitForVideoClassification

from cover.models.classifier import VideoClassifier, saved_name
from cover.models.loading import load_weights
from cover.models.sources import open_source

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
FLOATS = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])


def assert_equal(ours: Tensor | None, theirs: Tensor | None, what: str) -> None:
    """Equal to within the tolerance of their type, of the larger of 1 and the largest value."""
    assert ours is not None and theirs is not None
    atol = TOLERANCE[ours.dtype] * max(1, float(theirs.detach().abs().max()))
    torch.testing.assert_close(ours, theirs.to(ours), atol=atol, rtol=0, msg=lambda text: f"{what}: {text}")


@FLOATS
@pytest.mark.parametrize("attention", ATTENTION)
def test_logits_and_gradients_equal_the_official_model(attention: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Videos and images packed into one batch, from weights in the official names, in eval and train mode."""
    stored = golden.read(attention)
    arrays = stored["weights"]
    model = golden_model(attention, ("head", "images"))
    load_weights(model, save_arrays(arrays, tmp_path / "official.npz"))
    model.load_state_dict({name: model.state_dict()[name.replace("images", "head")] for name in model.state_dict()})
    model = model.type(dtype)
    batch = {
        head: torch.from_numpy(stored[name]).permute(1, 0, 4, 2, 3).to(dtype)
        for head, name in (("head", "video"), ("images", "image"))
    }
    for mode in (False, True):
        logits = model.train(mode)(batch)
        assert_equal(logits["head"], torch.from_numpy(stored["logits.video"]), "videos")
        assert_equal(logits["images"], torch.from_numpy(stored["logits.image"]), "images")
    sum(part.square().mean() for part in logits.values()).backward()
    gradients = by_our_names(stored["gradients"], tmp_path)
    found = {saved_name(name): grad for name, p in model.named_parameters() if (grad := p.grad) is not None}
    for kind in ("weight", "bias"):
        found[f"heads.head.{kind}"] += found.pop(f"heads.images.{kind}")
    assert gradients.keys() == found.keys()
    for name, gradient in gradients.items():
        assert_equal(found[name], gradient, name)


def by_our_names(arrays: dict[str, Any], folder: Path) -> dict[str, Tensor]:
    source = open_source(save_arrays(arrays, folder / "gradients.npz"))
    return {name: source.tensor(name) for name in source.shapes}


@FLOATS
@pytest.mark.parametrize("num_frames", [2, 8])
def test_logits_and_gradients_equal_those_of_transformers(num_frames: int, dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(num_frames)
    oracle = create_oracle(num_frames=num_frames).type(dtype)
    model = like(oracle, tmp_path)
    frames = clips(num_frames, 2, dtype=dtype)
    with torch.no_grad():
        assert_equal(model.eval()({"head": frames})["head"], oracle_logits(oracle, frames), "logits in eval mode")
    ours, theirs = model.train()({"head": frames})["head"], oracle_logits(oracle.train(), frames)
    assert_equal(ours, theirs, "logits in train mode")
    ours.square().mean().backward()
    theirs.square().mean().backward()
    for name, gradient in gradients_of(oracle, tmp_path).items():
        assert_equal(dict(model.named_parameters())[model_name(name)].grad, gradient, name)


@FLOATS
def test_every_part_of_a_packed_batch_equals_transformers_by_itself(dtype: torch.dtype, tmp_path: Path) -> None:
    """Videos of two lengths and images: an oracle of each length has the positions that ours interpolates."""
    torch.manual_seed(0)
    oracle = create_oracle(num_frames=8).type(dtype)
    model = like(oracle, tmp_path).eval()
    for num_frames in (1, 2, 4, 8):
        small = create_oracle(num_frames=max(num_frames, 2)).type(dtype)
        state, num_rows = oracle.state_dict(), max(num_frames // 2, 1)
        place = state["vivit.embeddings.position_embeddings"]
        grid = place[:, 1:].unflatten(1, (4, 4)).flatten(2).transpose(1, 2)
        grid = torch.nn.functional.interpolate(grid, size=num_rows, mode="linear") if num_rows > 1 else grid[..., :1]
        grid = grid.transpose(1, 2).unflatten(2, (4, -1)).flatten(1, 2)
        small.load_state_dict(state | {"vivit.embeddings.position_embeddings": torch.cat([place[:, :1], grid], 1)})
        frames = clips(num_frames, 2, dtype=dtype)
        with torch.no_grad():
            packed = model({"head": frames, "other": clips(4, 1, dtype=dtype), "images": clips(1, 3, dtype=dtype)})
            assert_equal(packed["head"], oracle_logits(small, frames), f"{num_frames} frames")


def like(oracle: VivitForVideoClassification, folder: Path) -> VideoClassifier:
    """Our model with the weights of the oracle, through its own files."""
    oracle.save_pretrained(folder / "theirs")
    heads = {"head": 5, "other": 4, "images": 3}
    model = small_model(num_frames=oracle.config.num_frames, heads=heads).type(oracle.dtype)
    report = load_weights(model, folder / "theirs")
    assert not (report.unused or report.resized or report.copied) and all("heads" in name for name in report.fresh)
    return model


def gradients_of(oracle: VivitForVideoClassification, folder: Path) -> dict[str, Tensor]:
    """By our names, through the names that transformers has in memory."""
    torch.save({name: p.grad for name, p in oracle.named_parameters()}, folder / "gradients.pth")
    source = open_source(folder / "gradients.pth")
    return {name: source.tensor(name) for name in source.shapes}


def model_name(saved: str) -> str:
    return saved if re.match("heads", saved) else f"backbone.{saved}"


def test_the_golden_file_names_its_source() -> None:
    assert len(golden.COMMIT) == 40 and np.load(golden.FILE).files
