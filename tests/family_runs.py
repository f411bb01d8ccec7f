"""Tiny models of every family of backbones, and the small mixture that their runs train on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tests.terminal import Cover

from cover.config.layers import checked
from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe
from cover.core.batch import ClipBatch, MixedBatch
from cover.core.run_files import find_checkpoint
from cover.datasets.layouts.class_folders import index_folder
from cover.models.classifier import VideoClassifier
from cover.models.create import build
from cover.models.family import backbone_family

WriteMedia = Callable[..., Path]

TINY: dict[str, dict[str, Any]] = {
    "timesformer": {
        "variant": "timesformer_tiny",
        "depth": 2,
        "width": 32,
        "num_heads": 2,
        "temporal_init": "random",
    },
    "videomae": {"depth": 2, "width": 32, "num_heads": 2},
    "video_swin": {"depths": [1, 2], "width": 8, "num_heads": [1, 2], "window": [2, 3, 3]},
    "vjepa2": {"variant": "vjepa2_1_base", "depth": 2, "width": 32, "num_heads": 2},
    "vivit": {"attention": "factorised_encoder", "depth": 2, "temporal_depth": 2, "width": 32, "num_heads": 2},
    "mvit": {"variant": "mvitv2_small", "depths": [1, 2], "width": 8, "kv_stride": 4},
}
"""{built-in family: keys of `[model]` that make it tiny}. A new family adds its line; tests/test_families.py does the
rest."""
HEADS = {name: ("left", "right") for name in ("moves", "pets")}
NUM_FRAMES, PX = 4, 32
EMA = 0.3


def section_of(family: str, **changes: Any) -> dict[str, Any]:
    """The `[model]` section of a tiny model."""
    return {"family": family, "num_frames": NUM_FRAMES, "image_size": PX} | TINY[family] | changes


def model_of(family: str, **changes: Any) -> VideoClassifier:
    """A tiny model in training mode. It has the same weights every time."""
    torch.manual_seed(0)
    known = backbone_family(family)
    section = checked(known.section, section_of(family, **changes), "test")
    return build(known.configure(section, HEADS), section.temporal_init)


def mixed_batch(num_videos: int, num_images: int, *, num_frames: int = NUM_FRAMES, first: int = 0) -> MixedBatch:
    """Clips number `first`, `first` + 1, … of each dataset; a clip depends on its number alone."""

    def clips(dataset: str, num_clips: int, length: int) -> ClipBatch:
        frames = [
            torch.randint(256, (length, 3, PX, PX), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))
            for number in range(first, first + num_clips)
        ]
        numbers = torch.arange(first, first + num_clips)
        return ClipBatch(dataset, torch.stack(frames, 1), numbers % 2, ("",) * num_clips, 7919 * numbers)

    parts = {"moves": (num_videos, num_frames), "pets": (num_images, 1)}
    found = {name: clips(name, count, length) for name, (count, length) in parts.items() if count}
    return MixedBatch(found, dict.fromkeys(HEADS, 2.0), step=0)


def check_that_clips_ignore_their_company(model: VideoClassifier) -> None:
    """With drop path in training mode, the logits of a clip follow from its frames and seed, alone as in a batch.

    The model has heads "k400" and "imagenet", and takes 8 frames of 32 px, and images.
    """
    torch.manual_seed(1)
    frames = {
        "k400": torch.randint(256, (8, 4, 3, 32, 32), dtype=torch.uint8),
        "imagenet": torch.randint(256, (1, 2, 3, 32, 32), dtype=torch.uint8),
    }
    seeds = {name: torch.randint(2**62, (clips.shape[1],)) for name, clips in frames.items()}

    def batch(name: str, rows: slice) -> ClipBatch:
        own = seeds[name][rows]
        zeros = torch.zeros(len(own), dtype=torch.int64)
        return ClipBatch(name, frames[name][:, rows], zeros, ("",) * len(own), own)

    every = {name: batch(name, slice(None)) for name in frames}
    together = model.train()(MixedBatch(every, counts={"k400": 4, "imagenet": 2}, step=0))
    for name, logits in together.items():
        for clip in range(len(logits)):
            one = batch(name, slice(clip, clip + 1))
            alone = model(MixedBatch({name: one}, counts={name: 1}, step=0))[name]
            torch.testing.assert_close(alone[0], logits[clip], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together["k400"], model.eval()(frames)["k400"], atol=1e-2)


def write_mixture(root: Path, recipe: str, write_video: WriteMedia, write_image: WriteMedia) -> Path:
    """Write recipe.toml beside manifests of videos (moves) and images (pets): 6 train and 2 val samples each."""
    for index in range(8):
        place = Path("val" if index % 4 == 3 else "train") / ("left" if index % 2 else "right") / str(index)
        write_video(root / "moves" / place.with_suffix(".mp4"), num_frames=6, width_px=48, height_px=40)
        write_image(root / "pets" / place.with_suffix(".png"), index, width_px=48, height_px=40)
    index_folder(root / "moves", kind="video", out=root)
    index_folder(root / "pets", kind="image", out=root)
    (root / "recipe.toml").write_text(recipe)
    return root


def recipe_of(
    mixture: Path, model: dict[str, Any], *, datasets: Collection[str] = tuple(HEADS), init: Path | None = None,
    policy: str = "cotrain", **training: Any,
) -> Recipe:  # fmt: skip
    """A recipe for a model and a mixture. Six steps see all clips twice."""
    files = {name: {split: str(mixture / f"{name}-{split}.arrow") for split in ("train", "val")} for name in datasets}
    steps = {"epochs": 2, "log_every": 1, "save_every": 1, "keep_checkpoints": 3, "evaluate_every_epochs": 2}
    values = {
        "policy": policy,
        "model": model,
        "datasets": files,
        "data": {"batch_size": 4, "num_workers": 0},
        "optimizer": {"learning_rate": 0.01, "layer_decay": 0.5},
        "training": steps | {"ema_decay": EMA} | training,
    }
    return parse_recipe(values | ({"init": str(init)} if init else {}), "test")


def assert_same_weights(run: Path, expected: Path, *, to_the_bit: bool) -> None:
    """The last checkpoints are equal, to the bit or within rounding: averaged weights, weights, optimizer."""
    for file in ("model.safetensors", "training.safetensors"):
        found, wanted = (load_file(find_checkpoint(folder, "latest") / file) for folder in (run, expected))
        assert found.keys() == wanted.keys()
        for name, tensor in wanted.items():
            assert (
                torch.equal(found[name], tensor) if to_the_bit else torch.allclose(found[name], tensor, 1e-3, 1e-5)
            ), name


def train_whole_and_in_parts(cover: Cover, work: Path, max_steps: int) -> Path:
    """Train once without a break and once with one, which must not change a bit. Returns the first run."""
    recipe, whole, parts = work / "recipe.toml", work / "whole", work / "parts"
    assert "moves" in cover("train", recipe, "--out", whole, "--dry-run").out
    assert not cover("train", recipe, "--out", whole).err
    cover("train", recipe, "--out", parts, "--set", f"training.max_steps={max_steps}")
    cover("train", recipe, "--out", parts, "--resume")
    assert_same_weights(parts, whole, to_the_bit=True)
    return whole
