"""docs/world.md has the numbers and maps of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("vizdoom")

from cover.world.events import EVENTS
from cover.world.images import OBJECTS, PRETRAIN
from cover.world.moves import MOVES
from cover.world.presets import MAP_GROUPS
from cover.world.scenes import SCENES
from cover.world.world_dataset import WorldDataset

PAGE = (Path(__file__).parents[2] / "docs/world.md").read_text()


@pytest.mark.parametrize("dataset", [PRETRAIN, OBJECTS, SCENES, MOVES, EVENTS], ids=lambda dataset: dataset.name)
def test_the_numbers_of_classes_are_right(dataset: WorldDataset) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{dataset.name}`")]
    assert f"| {len(dataset.classes)} / {len(dataset.quick_classes)} |" in row


def test_the_overlap_of_the_classes_is_right() -> None:
    pretrain, objects, scenes = (set(dataset.classes) for dataset in (PRETRAIN, OBJECTS, SCENES))
    text = " ".join(PAGE.split())
    assert f"{len(pretrain & objects)} of the {len(pretrain)} pre-training classes are also classes of `free" in text
    assert f"and {len(pretrain & scenes)} of the {len(scenes)} classes of `freedoom_scenes`" in text
    assert scenes <= objects


def test_all_maps_are_listed() -> None:
    assert all(name in PAGE for group in MAP_GROUPS.values() for name in group)
