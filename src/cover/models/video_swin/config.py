"""The settings of a Video Swin: recipe keys, named sizes, and the contents of config.json."""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal

from cover.config.families import ModelSection, Positive
from cover.errors import CoverError
from cover.models.config import IMAGENET_MEAN, IMAGENET_STD, MAX_DEPTH, ModelConfig

FAMILY_NAME = "video_swin"
TUBELET = (2, 4, 4)
"""Frames, rows and columns of pixels that become one token."""
WINDOW = (8, 7, 7)
# name: (width, blocks of each stage, attention heads of each stage)
VARIANTS: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "video_swin_tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "video_swin_small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "video_swin_base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "video_swin_large": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}
MAX_STAGES, MAX_SIZE, MAX_WINDOW_TOKENS = 8, 2**16, 2**14
"""Far above any published model. A damaged or hostile file may say 10⁹."""


class VideoSwinSection(ModelSection):
    """Architecture and input size."""

    variant: Literal["video_swin_tiny", "video_swin_small", "video_swin_base", "video_swin_large"] = "video_swin_tiny"
    """Sets width, depths and attention heads."""
    family: Literal["video_swin"] = "video_swin"
    """The kind of backbone."""
    num_frames: Positive = 32
    """Frames per clip. An image always has one, which stands for two equal frames."""
    window: tuple[Positive, Positive, Positive] = WINDOW
    """Pairs of frames, rows and columns of patches that attend to each other. Published: [8, 7, 7]; [8, 12, 12] for
    384 px; [16, 7, 7] for SSv2."""
    width: Positive | None = None
    """Size of a token in the first stage, instead of the variant's. It doubles from stage to stage."""
    depths: tuple[Positive, ...] | None = None
    """Number of blocks of each stage, instead of the variant's."""
    num_heads: tuple[Positive, ...] | None = None
    """Attention heads of each stage, instead of the variant's."""

    def unused_keys(self, *, has_init: bool) -> dict[str, str]:
        """See ModelSection."""
        return super().unused_keys(has_init=has_init) | {"temporal_init": "no layer of a Video Swin only mixes frames"}


@dataclass(frozen=True, kw_only=True)
class VideoSwinConfig(ModelConfig):
    """The configuration of a Video Swin.

    Attributes:
        width: Size of a token in the first stage. It doubles from stage to stage.
        depths: Number of blocks of each stage.
        num_heads: Attention heads of each stage.
        window: Time slots, rows and columns of a window. A slot is two frames, rows and columns are of 4 pixels. An
            image Swin has one slot.

    Raises:
        CoverError: A value is impossible, or values do not fit together.
    """

    family: ClassVar[str] = FAMILY_NAME
    weight_sizes: ClassVar[tuple[str, ...]] = ("depths", "width", "num_heads")

    width: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window: tuple[int, int, int] = WINDOW
    num_frames: int = 32
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        self.check_size("width", MAX_SIZE)
        for name in ("depths", "num_heads", "window"):
            values = getattr(self, name)
            if isinstance(values, list):  # JSON has no tuples
                object.__setattr__(self, name, values := tuple(values))
            if not isinstance(values, tuple) or not all(_is_size(value) for value in values):
                raise CoverError(f"{name} is {reprlib.repr(values)}; it must be whole numbers from 1 to {MAX_SIZE:,}")
        super().__post_init__()
        if not 1 <= len(self.depths) <= MAX_STAGES or len(self.depths) != len(self.num_heads):
            raise CoverError(
                f"depths are {list(self.depths)} and num_heads {list(self.num_heads)}; give both one number for each "
                f"of 1 to {MAX_STAGES} stages"
            )
        if sum(self.depths) > MAX_DEPTH:
            raise CoverError(f"depths are {list(self.depths)}; give at most {MAX_DEPTH:,} blocks in all")
        if len(self.window) != 3 or prod(self.window) > MAX_WINDOW_TOKENS:
            raise CoverError(
                f"window is {list(self.window)}; give slots of time, rows and columns, together at most "
                f"{MAX_WINDOW_TOKENS:,} tokens"
            )
        for stage, num_heads in enumerate(self.num_heads):
            if self.stage_width(stage) % num_heads:
                raise CoverError(
                    f"num_heads {num_heads} of stage {stage + 1} does not divide its width {self.stage_width(stage)}; "
                    "change one of them"
                )

    def stage_width(self, stage: int) -> int:
        """Return the size of a token in a stage, counted from 0."""
        return self.width << stage

    def describe(self, not_stated: Collection[str] = ()) -> str:
        """See ModelConfig."""
        return (
            f"shifted windows of {_times(self.window)} tokens, {_plus(self.depths)} blocks, width {self.width} to "
            f"{self.stage_width(len(self.depths) - 1)}, {_plus(self.num_heads)} heads, tubelets of {_times(TUBELET)}"
        )


def variant_values(section: VideoSwinSection) -> dict[str, Any]:
    """Return width, depths and heads of a section: its own, or the variant's."""
    usual = dict(zip(("width", "depths", "num_heads"), VARIANTS[section.variant], strict=True))
    return {name: getattr(section, name) or value for name, value in usual.items()}


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIZE


def _times(values: tuple[int, ...]) -> str:
    return " × ".join(map(str, values))


def _plus(values: tuple[int, ...]) -> str:
    return " + ".join(map(str, values))
