"""Two clips made into one: blended (mixup), or one pasted into a box of the other (CutMix).

mixup            CutMix
+-----------+    +-----------+
|           |    | a  +---+  |     one weight, one box for all frames of a clip
| w·a+(1-w)·b    |    | b |  |
+-----------+    +----+---+--+
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixing:
    """How clips are mixed with a partner.

    mixup: α of the Beta(α, α) from which blending weights are drawn (H. Zhang et al., "mixup", ICLR 2018); 0 is off.
    cutmix: α of pasting (S. Yun et al., "CutMix", ICCV 2019); 0 is off. With both on, either comes by even odds.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def is_on(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def __call__(self, clip: Tensor, partner: Tensor, rng: np.random.Generator) -> tuple[Tensor, float]:
        """The mixed clip, and the weight of `clip` in it, from 0.5 to 1. Clips are uint8 [T,3,Y,X].

        A clip weighs no less than its partner. Partners are each other's, and Beta(α, α) is symmetric: over the two
        of them the mixtures are distributed as if weights went from 0 to 1.
        """
        pastes = self.cutmix > 0 and (self.mixup == 0 or rng.random() < 0.5)
        alpha = self.cutmix if pastes else self.mixup
        weight = float(rng.beta(alpha, alpha))
        return (paste if pastes else blend)(clip, partner, max(weight, 1 - weight), rng)


def blend(clip: Tensor, partner: Tensor, weight: float, _rng: np.random.Generator) -> tuple[Tensor, float]:
    """weight · clip + (1 - weight) · partner, rounded to whole pixel values."""
    scaled = clip.numpy() * np.float32(weight) + partner.numpy() * np.float32(1 - weight)
    return torch.from_numpy((scaled + np.float32(0.5)).astype(np.uint8)), weight


def paste(clip: Tensor, partner: Tensor, weight: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """The clip with a box of the partner in it: 1 - weight of the area, less where the frame's border cuts it off.

    The weight returned is the share of the area that remains.
    """
    height_px, width_px = clip.shape[2:]
    rows, columns = (_span(side_px, (1 - weight) ** 0.5, rng) for side_px in (height_px, width_px))
    mixed = clip.clone()
    mixed[:, :, rows, columns] = partner[:, :, rows, columns]
    area_px = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, 1 - area_px / (height_px * width_px)


def _span(side_px: int, fraction: float, rng: np.random.Generator) -> slice:
    """A stretch of a side around a random centre."""
    centre, half = int(rng.integers(side_px)), int(side_px * fraction) // 2
    return slice(max(centre - half, 0), min(centre + half, side_px))
