"""docs/world.md lists the classes and maps that the code has."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("vizdoom")

from cover.world.images import OBJECTS, PRETRAIN
from cover.world.presets import MAP_GROUPS
from cover.world.scenes import SCENES
from cover.world.things import THINGS

PAGE = (Path(__file__).parents[2] / "docs/world.md").read_text()


def test_the_table_of_things_is_right() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines()]
    listed = {row[0]: row[1:] for row in rows if row and row[0] in THINGS}
    expected = {
        name: [
            ("● q" if name in dataset.quick_classes else "●") if name in dataset.classes else ""
            for dataset in (PRETRAIN, OBJECTS, SCENES)
        ]
        for name in THINGS
    }
    assert listed == expected


def test_all_maps_are_listed() -> None:
    assert all(name in PAGE for group in MAP_GROUPS.values() for name in group)
