"""What a model is made of: everything needed to build it again, as plain data that fits in a config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cover.errors import CoverError

Attention = Literal["divided", "joint", "space_only"]
ImageTemporal = Literal["attend", "skip"]
Heads = Mapping[str, int | Sequence[str]]

# name: (depth, width, attention heads). Base and Large are the paper's (§4.1, appendix B).
VARIANTS: dict[str, tuple[int, int, int]] = {
    "timesformer_tiny": (6, 192, 3),
    "timesformer_small": (12, 384, 6),
    "timesformer_base": (12, 768, 12),
    "timesformer_large": (24, 1024, 16),
}


@dataclass(frozen=True)
class ModelConfig:
    """Architecture, heads and input format of a TimeSformer.

    attention: "divided" (temporal, then spatial), "joint" (all patches of all frames at once) or "space_only" (each
        frame by itself: image pre-training, Eq. 1).
    drop_path_rate: share of residual branches dropped in the last block, rising linearly from 0 in the first.
    image_temporal: what temporal attention does to a clip of one frame. "attend" follows the paper's appendix A
        (softmax over one key, so value and output projections remain), "skip" its Fig. 2 (no effect).
    heads: class names of every dataset, in label order.
    mean, std: input normalisation of RGB in 0..1.
    """

    depth: int
    width: int
    num_heads: int
    num_frames: int = 8
    image_size_px: int = 224
    patch_size_px: int = 16
    attention: Attention = "divided"
    image_temporal: ImageTemporal = "attend"
    drop_path_rate: float = 0.0
    heads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if self.image_size_px % self.patch_size_px:
            raise CoverError(
                f"image_size {self.image_size_px} is not a multiple of patch_size {self.patch_size_px}; "
                f"take {self.image_size_px // self.patch_size_px * self.patch_size_px or self.patch_size_px}"
            )
        if self.width % self.num_heads:
            raise CoverError(f"width {self.width} is not a multiple of the {self.num_heads} attention heads")
        for name in self.heads:
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise CoverError(
                    f"dataset name {name!r} holds other signs than letters, digits, '_' and '-'; rename it"
                )

    @property
    def grid_size(self) -> int:
        """Patches along one side of a frame."""
        return self.image_size_px // self.patch_size_px


def variant_config(variant: str, heads: Heads, **settings: object) -> ModelConfig:
    """The configuration of a named variant.

    heads: for each dataset its class names, or their number. settings: other fields of ModelConfig; None keeps the
    variant's value. Raises CoverError for an unknown variant or values that do not fit together.
    """
    if variant not in VARIANTS:
        raise CoverError(f"unknown model variant {variant!r}; the variants are {', '.join(VARIANTS)}")
    depth, width, num_heads = VARIANTS[variant]
    values: dict[str, object] = {"depth": depth, "width": width, "num_heads": num_heads}
    values |= {key: value for key, value in settings.items() if value is not None}
    return ModelConfig(heads={name: class_names(classes) for name, classes in heads.items()}, **values)  # type: ignore[arg-type]


def class_names(classes: int | Sequence[str]) -> tuple[str, ...]:
    """Class names as given, or "0", "1", … for a mere number of classes."""
    return tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
