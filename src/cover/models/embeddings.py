"""Patches, and position and time embeddings for any frame size and clip length."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Resize = Literal["smooth", "published"]
"""smooth: bicubic in 2-D, linear in time. published: nearest along one dimension, in space too, as the published code
does; needed only to check published numbers."""


class PatchEmbed(nn.Module):
    """A linear map of each patch of each frame: [F, C, Y, X] → [F, D, Y / patch, X / patch]."""

    def __init__(self, patch_size_px: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size_px, stride=patch_size_px)

    def forward(self, frames_FCYX: Tensor) -> Tensor:
        out: Tensor = self.proj(frames_FCYX)
        return out


def resize_pos_embed(pos_embed: Tensor, grid: tuple[int, ...], resize: Resize = "smooth") -> Tensor:
    """Position embedding [1, 1+N, D] for another grid (rows, columns); the class token's is kept."""
    side = int((pos_embed.shape[1] - 1) ** 0.5)
    if grid == (side, side):
        return pos_embed
    patches_1DN = pos_embed[:, 1:].transpose(1, 2)
    if resize == "published":
        resized_1DN = F.interpolate(patches_1DN, size=math.prod(grid), mode="nearest")
    else:
        grid_1DYX = patches_1DN.unflatten(2, (side, side))
        resized_1DN = F.interpolate(grid_1DYX, size=list(grid), mode="bicubic", align_corners=False).flatten(2)
    return torch.cat([pos_embed[:, :1], resized_1DN.transpose(1, 2)], dim=1)


def time_embed_for(time_embed: Tensor, num_frames: int, resize: Resize = "smooth") -> Tensor:
    """Time embedding [1, T, D] for another clip length; for a single frame the first entry, which is what the
    published nearest-neighbour resize gives."""
    if num_frames == time_embed.shape[1]:
        return time_embed
    if num_frames == 1:
        return time_embed[:, :1]
    time_1DT = time_embed.transpose(1, 2)
    if resize == "published":
        return F.interpolate(time_1DT, size=num_frames, mode="nearest").transpose(1, 2)
    return F.interpolate(time_1DT, size=num_frames, mode="linear", align_corners=False).transpose(1, 2)
