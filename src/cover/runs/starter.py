"""A first recipe for a user's manifests: every key that matters, with a value by the size of the data and a comment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cover.datasets.class_list import names_side
from cover.datasets.manifest import Manifest
from cover.datasets.names import composed
from cover.errors import RecipeError
from cover.runs.folder import SPLITS

WANTED_STEPS, MIN_EPOCHS, MAX_EPOCHS = 3000, 20, 100
MAX_CACHED = 2000
"""Datasets with more clips are decoded in every epoch."""
UNEVEN = 5
"""If the largest class has this many times the samples of the smallest, all classes are read equally often."""


@dataclass(frozen=True)
class _Size:
    """What suits datasets of up to `max_clips` clips."""

    max_clips: float
    variant: str
    image_size: int
    batch_size: int
    learning_rate: float


_SIZES = (
    _Size(10_000, "timesformer_tiny", 112, 16, 5e-4),
    _Size(100_000, "timesformer_small", 224, 32, 3e-4),
    _Size(float("inf"), "timesformer_base", 224, 64, 1e-4),
)


def starter_recipe(manifests: Sequence[Manifest], folder: Path) -> str:
    """Write a recipe for manifests.

    Args:
        manifests: The splits of one or several datasets.
        folder: Where the recipe will be: its paths are relative to it.

    Returns:
        A TOML text with comments.

    Raises:
        RecipeError: A dataset has no train split, or a split twice.
    """
    datasets = _by_dataset(manifests)
    training = [splits["train"] for splits in datasets.values()]
    num_clips = sum(map(len, training))
    size = next(size for size in _SIZES if num_clips <= size.max_clips)
    batch_size = max(1, min(size.batch_size, *(len(manifest) for manifest in training)))
    epochs = min(max(round(WANTED_STEPS * batch_size / num_clips), MIN_EPOCHS), MAX_EPOCHS)
    policy = _policy(training)
    parts = [
        f"""\
# Written by `cover init` for {num_clips:,} training samples. Check it with: cover train RECIPE --dry-run
# All keys and their defaults: docs/recipe.md

policy = "{policy}" # {_POLICIES[policy]}
# init = "…" # weights or a run to start from: with few samples, this helps most. See docs/weights.md

[model]
variant = "{size.variant}" # one of timesformer_tiny, _small, _base, _large: larger ones need more samples
image_size = {size.image_size} # side of a frame in pixels; the cost grows with its square
{_MODEL[policy]}""",
        *(_dataset(name, splits, folder) for name, splits in datasets.items()),
        f"""\
[data]
batch_size = {batch_size} # clips a step, of all datasets together; halve it if memory runs out
{_cache(num_clips)}
[optimizer]
name = "adamw"
learning_rate = {size.learning_rate:g} # for weights that start at random; with `init`, try 1e-4
weight_decay = 0.05
schedule = "cosine"
warmup_epochs = 1
clip_gradient_norm = 1.0

[training]
epochs = {epochs} # about {round(epochs * num_clips / batch_size):,} steps
""",
    ]
    return "\n".join(parts)


_POLICIES = {
    "standard": 'one dataset of videos; "cotrain" takes any number, and images, too',
    "cotrain": "several datasets, with a head for each",
    "pretrain": "images alone, without temporal layers",
}
_MODEL = dict.fromkeys(
    ("standard", "cotrain"),
    "num_frames = 8 # frames of a clip\n"
    'temporal_init = "random" # without `init`; remove it if you start from weights of images\n',
) | {"pretrain": ""}


def _by_dataset(manifests: Sequence[Manifest]) -> dict[str, dict[str, Manifest]]:
    datasets: dict[str, dict[str, Manifest]] = {}
    for manifest in manifests:
        if manifest.split in datasets.setdefault(manifest.name, {}):
            raise RecipeError(
                f"{manifest.name} has two {manifest.split} manifests, {manifest.path} and another; leave one out, or "
                "index one with another --name"
            )
        datasets[manifest.name][manifest.split] = manifest
    for name, splits in datasets.items():
        if "train" not in splits:
            raise RecipeError(f"{name} has no train manifest among those named, only {', '.join(splits)}; name it, too")
    return datasets


def _policy(training: Sequence[Manifest]) -> str:
    if all(manifest.kind == "image" for manifest in training):
        return "pretrain"
    return "standard" if len(training) == 1 else "cotrain"


def _dataset(name: str, splits: Mapping[str, Manifest], folder: Path) -> str:
    train = splits["train"]
    key = re.sub(r"[^\w-]+", "_", composed(name)).strip("_") or "my_dataset"  # as names of heads are written
    key = key if key.isascii() else json.dumps(key, ensure_ascii=False)
    lines = [f"[datasets.{key}] # {len(train):,} {train.kind}s of {len(train.class_names):,} classes"]
    for split in SPLITS:
        if split in splits:
            path = Path(os.path.relpath(splits[split].path, folder.resolve())).as_posix()
            lines.append(f"{split} = {json.dumps(path, ensure_ascii=False)}")
    if "val" not in splits:
        lines.append('# val = "…" # chooses the best checkpoint; `cover index … --val 0.2` makes one')
    if any(map(names_side, train.class_names)):
        lines.append('horizontal_flip = false # classes name left or right; or set mirror_pairs = "auto"')
    counts = [count for count in train.class_counts().tolist() if count]
    if max(counts) >= UNEVEN * min(counts) and not train.is_multi_label:
        lines.append(f"class_balanced = true # classes have {min(counts):,} to {max(counts):,} samples")
    return "\n".join(lines) + "\n"


def _cache(num_clips: int) -> str:
    if num_clips > MAX_CACHED:
        return ""
    return "cache_frames = true # decode each clip once and keep its frames in memory\n"
