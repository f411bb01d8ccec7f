"""Recipes of a tiny model on tiny data, and finished runs of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.runs.tiny import IMAGES, SECTIONS, VIDEOS, MakeRecipe, WriteMedia, quiet

from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe
from cover.datasets.layouts.class_folders import index_folder
from cover.runs.plan import plan
from cover.runs.train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_video: WriteMedia, write_image: WriteMedia) -> Path:
    """Manifests of two sets of 12 and 8 videos and one of 10 images, two classes each, with val splits of 4."""
    root = tmp_path_factory.mktemp("data")
    for name, num_samples in (("jumps", 12), ("turns", 8), ("pets", 10)):
        for index in range(num_samples + 4):
            split = "train" if index < num_samples else "val"
            file = root / name / split / ("left" if index % 2 else "right") / str(index)
            if name == "pets":
                write_image(file.with_suffix(".png"), 100 * index, width_px=48, height_px=40)
            else:
                write_video(file.with_suffix(".mp4"), num_frames=6, first_number=100 * index, width_px=48, height_px=40)
        index_folder(root / name, kind="image" if name == "pets" else "video", out=root)
    return root


@pytest.fixture(scope="module")
def recipe_of(data: Path) -> MakeRecipe:
    """recipe_of(policy, datasets, init=…, root=…, training={…}, …) → a recipe for a tiny model on tiny data.

    root: folder of the manifests; only those that exist are named. options: further keys by dataset.
    """

    def recipe_of(
        policy: str,
        datasets: Sequence[str],
        init: Path | None = None,
        root: Path = data,
        options: Mapping[str, Mapping[str, Any]] = {},
        **changes: Mapping[str, Any],
    ) -> Recipe:
        values: dict[str, Any] = {name: section | dict(changes.get(name, {})) for name, section in SECTIONS.items()}
        files = {name: {split: root / f"{name}-{split}.arrow" for split in ("train", "val")} for name in datasets}
        values["datasets"] = {
            name: {split: str(file) for split, file in splits.items() if file.exists()} | dict(options.get(name, {}))
            for name, splits in files.items()
        }
        return parse_recipe(values | {"policy": policy} | ({"init": str(init)} if init else {}), "test")

    return recipe_of


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, recipe_of: MakeRecipe) -> Path:
    """A finished pre-training run."""
    run = tmp_path_factory.mktemp("runs") / "pretrain"
    assert not train(plan(recipe_of("pretrain", IMAGES, training={"max_steps": 2})), run, quiet())
    return run


@pytest.fixture(scope="module")
def cotrain(recipe_of: MakeRecipe, pretrained: Path) -> Recipe:
    return recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained)


@pytest.fixture(scope="module")
def finished(pretrained: Path, cotrain: Recipe) -> Path:
    """A finished co-training run; copy it before you change it."""
    run = pretrained.with_name("cotrain")
    assert not train(plan(cotrain), run, quiet())
    return run
