"""Rotary positions of V-JEPA 2: features of a head turn with the time, the row and the column of a patch.

A third of the features, rounded down to an even number, belongs to each axis; what is left over does not turn. Feature
i of the A features of an axis turns by the angle place · 10000^(-j / (A/2)), where

    j = i mod A/2     in version 2: the two features of a pair turn by different angles, so it is no rotation
    j = i div 2       in version 2.1, as usual

The first was a mistake, which the published weights have learned with. Version 2.1 also scales rows and columns so that
they run from 0 to 15 in frames of any size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cover.models.kernels.rotary import Rotary
from cover.models.vjepa2.config import Version, VJEPA2Config

TRAINED_PX = {14: 252, 16: 256}
"""{side of a patch: side of the frames whose places version 2.1 keeps for all sizes}."""


def rotary(config: VJEPA2Config, length: int, grid: tuple[int, int], weight: Tensor) -> Rotary:
    """Compute the positions of all tokens, on the device, so that a CUDA graph records it.

    Args:
        config: The configuration of the model.
        length: The tubelets in time of the longest clip. The tokens of a shorter clip are the first of its tokens.
        grid: The rows and columns of patches of a frame.
        weight: A weight of the model, for its type and device.
    """
    angles = rotary_angles(config.version, config.width // config.num_heads, *places(config, length, grid, weight))
    parts = [part for pair in angles.unbind(-1) for part in (pair.cos(), pair.sin())]
    dtype = torch.promote_types(weight.dtype, torch.float32)
    return Rotary(torch.stack(parts, dim=1).to(dtype).to(weight.device))


def places(config: VJEPA2Config, length: int, grid: tuple[int, int], weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return time, row and column of each token of the longest clip, float64 [L]."""
    device = torch.device("cpu") if weight.device.type == "mps" else weight.device  # Apple's GPUs have no float64
    time, row, column = (torch.arange(size, device=device, dtype=torch.float64) for size in (length, *grid))
    if config.version == "2.1":
        last = TRAINED_PX.get(config.patch_size_px, 256) // config.patch_size_px - 1
        row, column = (place * last / max(1, len(place) - 1) for place in (row, column))
    mesh = torch.meshgrid(time, row, column, indexing="ij")
    return mesh[0].flatten(), mesh[1].flatten(), mesh[2].flatten()


def rotary_angles(version: Version, head_width: int, *places_L: Tensor) -> Tensor:
    """Return the angles of the features of a head, by pairs.

    Args:
        version: That of the model.
        head_width: E.
        *places_L: The place of each token on each axis.

    Returns:
        [L, E / 2, 2].
    """
    half = head_width // len(places_L) // 2
    feature = torch.arange(2 * half, device=places_L[0].device)
    exponent = feature % half if version == "2" else feature // 2
    speed_A = 10000.0 ** -(exponent.to(places_L[0].dtype) / max(half, 1))
    angles = [place_L[:, None] * speed_A for place_L in places_L]
    rest = head_width - sum(angle.shape[1] for angle in angles)
    still = places_L[0].new_zeros(len(places_L[0]), rest)
    pairs: Tensor = torch.cat([*angles, still], dim=1).unflatten(1, (-1, 2))
    return pairs
