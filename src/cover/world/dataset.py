"""What a built-in dataset is: a name, a kind, its classes, and a function that draws one checked clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cover.datasets.names import Kind
from cover.world.game import Game


@dataclass(frozen=True)
class ClipFormat:
    """Size and length of a rendered clip; an image has `num_frames` 1."""

    width_px: int
    height_px: int
    num_frames: int
    tics_per_frame: int

    @property
    def num_tics(self) -> int:
        """Game time from the first to the last frame."""
        return (self.num_frames - 1) * self.tics_per_frame


# (game on an episode of some map, class name, random source, format) -> uint8 frames [T, Y, X, 3] of one clip whose
# label was checked, or None when the check failed and the clip is to be drawn again. All randomness comes from the
# random source and the episode's seed.
Draw = Callable[[Game, str, np.random.Generator, ClipFormat], np.ndarray | None]


@dataclass(frozen=True)
class WorldDataset:
    """A built-in dataset; `classes` are folder names; the quick preset has only some of them."""

    name: str
    kind: Kind
    classes: tuple[str, ...]
    quick_classes: tuple[str, ...]
    draw: Draw

    def __post_init__(self) -> None:
        assert set(self.quick_classes) <= set(self.classes) and len(set(self.classes)) == len(self.classes)
