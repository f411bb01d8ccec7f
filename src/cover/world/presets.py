"""How much of the world each preset renders, and on which maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cover.world.events import EVENTS
from cover.world.images import OBJECTS, PRETRAIN
from cover.world.moves import MOVES
from cover.world.scenes import SCENES
from cover.world.world_dataset import ClipFormat, WorldDataset

DATASETS = {dataset.name: dataset for dataset in (PRETRAIN, OBJECTS, SCENES, MOVES, EVENTS)}

# The groups are disjoint. They leave out maps with too little open, steadily lit ground (MAP16, MAP24, MAP31, E2M2,
# E3M2) and maps that are mostly one colour (MAP23, MAP27, MAP29, MAP30, E3M1, E3M4, E3M9).
MAP_GROUPS = {
    group: tuple(names.split())
    for group, names in {
        "pretrain": "MAP02 MAP08 MAP12 MAP15 MAP19 MAP32 E1M2 E1M8 E2M1 E3M7 E4M2 E4M5",
        "pretrain_val": "MAP22 E2M6",
        "train": "MAP01 MAP04 MAP05 MAP07 MAP09 MAP11 MAP13 MAP18 MAP21 MAP26 E1M1 E1M3 E1M5 E1M7 E1M9 "
        "E2M3 E2M5 E2M7 E2M9 E3M3 E3M6 E3M8 E4M1 E4M3 E4M7 E4M9",
        "val": "MAP03 MAP17 MAP25 E1M4 E2M8 E4M6",
        "test": "MAP06 MAP10 MAP14 MAP20 MAP28 E1M6 E2M4 E3M5 E4M4 E4M8",
    }.items()
}


@dataclass(frozen=True)
class Preset:
    """Size of the built-in datasets.

    Attributes:
        formats: Formats of clips, by kind.
        num_clips: Number of clips, by dataset and split.
        all_classes: Render all classes, not just the quick ones.
    """

    formats: Mapping[str, ClipFormat]
    num_clips: Mapping[str, Mapping[str, int]]
    all_classes: bool

    def classes(self, dataset: WorldDataset) -> tuple[str, ...]:
        """The classes of a dataset that this preset renders."""
        return dataset.classes if self.all_classes else dataset.quick_classes


_STUDY_FORMATS = {"image": ClipFormat(256, 192, 1, 1), "video": ClipFormat(256, 192, 24, 3)}
_SMALL_FORMATS = {"image": ClipFormat(160, 120, 1, 1), "video": ClipFormat(160, 120, 16, 3)}
PRESETS = {
    "smoke": Preset(
        formats=_SMALL_FORMATS,
        num_clips={
            PRETRAIN.name: {"train": 64, "val": 32},
            OBJECTS.name: {"train": 64, "val": 32, "test": 32},
            SCENES.name: {"train": 32, "val": 16, "test": 16},
            MOVES.name: {"train": 32, "val": 16, "test": 16},
            EVENTS.name: {"train": 32, "val": 16, "test": 16},
        },
        all_classes=False,
    ),
    "quick": Preset(
        formats=_SMALL_FORMATS,
        num_clips={
            PRETRAIN.name: {"train": 1600, "val": 160},
            OBJECTS.name: {"train": 1600, "val": 160, "test": 320},
            SCENES.name: {"train": 640, "val": 80, "test": 160},
            MOVES.name: {"train": 640, "val": 80, "test": 160},
            EVENTS.name: {"train": 640, "val": 80, "test": 160},
        },
        all_classes=False,
    ),
    "full": Preset(
        formats={"image": ClipFormat(320, 240, 1, 1), "video": ClipFormat(320, 240, 36, 2)},
        num_clips={
            PRETRAIN.name: {"train": 20_000, "val": 1_000},
            OBJECTS.name: {"train": 20_000, "val": 1_000, "test": 2_000},
            SCENES.name: {"train": 4_000, "val": 500, "test": 1_000},
            MOVES.name: {"train": 8_000, "val": 500, "test": 1_000},
            EVENTS.name: {"train": 4_000, "val": 500, "test": 1_000},
        },
        all_classes=True,
    ),
    "small_study": Preset(
        formats=_STUDY_FORMATS,
        num_clips={
            PRETRAIN.name: {"train": 5_000, "val": 200},
            OBJECTS.name: {"train": 2_000, "val": 200, "test": 500},
            SCENES.name: {"train": 1_000, "val": 200, "test": 1_000},
            MOVES.name: {"train": 1_000, "val": 200, "test": 1_000},
            EVENTS.name: {"train": 1_000, "val": 200, "test": 1_000},
        },
        all_classes=True,
    ),
    "study": Preset(
        formats=_STUDY_FORMATS,
        num_clips={
            PRETRAIN.name: {"train": 10_000, "val": 500},
            OBJECTS.name: {"train": 8_000, "val": 500, "test": 2_000},
            SCENES.name: {"train": 4_000, "val": 500, "test": 1_000},
            MOVES.name: {"train": 4_000, "val": 500, "test": 1_000},
            EVENTS.name: {"train": 4_000, "val": 500, "test": 1_000},
        },
        all_classes=True,
    ),
}


def maps_of(dataset: str, split: str) -> tuple[str, ...]:
    """The maps on which a split of a dataset is rendered."""
    if dataset == PRETRAIN.name:
        return MAP_GROUPS["pretrain" if split == "train" else "pretrain_val"]
    return MAP_GROUPS[split]
