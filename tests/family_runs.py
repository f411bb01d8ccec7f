"""What the runs of every family of backbones share: a small mixture, and a run that is stopped and resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from tests.terminal import Cover

from cover.core.run_files import find_checkpoint
from cover.datasets.layouts.class_folders import index_folder

WriteMedia = Callable[..., Path]


def write_mixture(root: Path, recipe: str, write_video: WriteMedia, write_image: WriteMedia) -> Path:
    """Write recipe.toml beside manifests of videos (moves) and images (pets)."""
    for index in range(8):
        place = Path("val" if index % 4 == 3 else "train") / ("left" if index % 2 else "right") / str(index)
        write_video(root / "moves" / place.with_suffix(".mp4"), num_frames=6, width_px=48, height_px=40)
        write_image(root / "pets" / place.with_suffix(".png"), index, width_px=48, height_px=40)
    index_folder(root / "moves", kind="video", out=root)
    index_folder(root / "pets", kind="image", out=root)
    (root / "recipe.toml").write_text(recipe)
    return root


def train_whole_and_in_parts(cover: Cover, work: Path, max_steps: int) -> Path:
    """Train once without a break and once with one, which must not change a bit. Returns the first run."""
    recipe, whole, parts = work / "recipe.toml", work / "whole", work / "parts"
    assert "moves" in cover("train", recipe, "--out", whole, "--dry-run").out
    assert not cover("train", recipe, "--out", whole).err
    cover("train", recipe, "--out", parts, "--set", f"training.max_steps={max_steps}")
    cover("train", recipe, "--out", parts, "--resume")
    for file in ("model.safetensors", "training.safetensors"):
        expected, found = (load_file(find_checkpoint(run, "latest") / file) for run in (whole, parts))
        assert expected.keys() == found.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    return whole
