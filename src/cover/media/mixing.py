"""Mix two clips into one: blend them (mixup), or paste a box of one into the other (CutMix).

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

    Attributes:
        mixup: α of the Beta(α, α) distribution of blending weights (H. Zhang et al., "mixup", ICLR 2018); 0 is off.
        cutmix: α for pasting (S. Yun et al., "CutMix", ICCV 2019); 0 is off. If both are on, each is used half of the
            time.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def is_on(self) -> bool:
        """Whether clips are mixed at all."""
        return self.mixup > 0 or self.cutmix > 0

    def __call__(self, clip: Tensor, partner: Tensor, rng: np.random.Generator) -> tuple[Tensor, float]:
        """Mix a clip with its partner.

        A clip weighs at least as much as its partner. Because partners are mutual and Beta(α, α) is symmetric, the
        mixtures of both together are distributed as if weights went from 0 to 1.

        Args:
            clip: uint8 [T,3,Y,X].
            partner: uint8 [T,3,Y,X].
            rng: The source of randomness.

        Returns:
            The mixed clip, uint8 [T,3,Y,X], and the weight of `clip` in it, from 0.5 to 1.
        """
        pastes = self.cutmix > 0 and (self.mixup == 0 or rng.random() < 0.5)
        alpha = self.cutmix if pastes else self.mixup
        weight = float(rng.beta(alpha, alpha))
        return (paste if pastes else blend)(clip, partner, max(weight, 1 - weight), rng)


def blend(clip: Tensor, partner: Tensor, weight: float, _rng: np.random.Generator) -> tuple[Tensor, float]:
    """Return weight · clip + (1 - weight) · partner, rounded to whole pixel values, and the weight.

    Args:
        clip: uint8 [T,3,Y,X].
        partner: uint8 [T,3,Y,X].
        weight: From 0 to 1.
    """
    scaled = clip.numpy() * np.float32(weight) + partner.numpy() * np.float32(1 - weight)
    return torch.from_numpy((scaled + np.float32(0.5)).astype(np.uint8)), weight


def paste(clip: Tensor, partner: Tensor, weight: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Paste a box of the partner into the clip.

    The box has 1 - weight of the area, less what the border of the frame cuts off.

    Args:
        clip: uint8 [T,3,Y,X].
        partner: uint8 [T,3,Y,X].
        weight: From 0 to 1.
        rng: Draws where the box is.

    Returns:
        The mixed clip, uint8 [T,3,Y,X], and the share of the area that remains.
    """
    height_px, width_px = clip.shape[2:]
    rows, columns = (_span(side_px, (1 - weight) ** 0.5, rng) for side_px in (height_px, width_px))
    mixed = clip.clone()
    mixed[:, :, rows, columns] = partner[:, :, rows, columns]
    area_px = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, 1 - area_px / (height_px * width_px)


def _span(side_px: int, fraction: float, rng: np.random.Generator) -> slice:
    """Return a range of a side around a random centre."""
    centre, half = int(rng.integers(side_px)), int(side_px * fraction) // 2
    return slice(max(centre - half, 0), min(centre + half, side_px))
