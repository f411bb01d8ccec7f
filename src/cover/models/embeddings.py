"""Patches, and position and time embeddings for any frame size and clip length."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """A linear map of each patch of each frame: [F, C, Y, X] → [F, D, Y / patch, X / patch]."""

    def __init__(self, patch_size_px: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size_px, stride=patch_size_px)

    def forward(self, frames_FCYX: Tensor) -> Tensor:
        out: Tensor = self.proj(frames_FCYX)
        return out


def resize_pos_embed(pos_embed: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Position embedding [1, 1+N, D] for another grid (rows, columns): bicubic in 2-D, the class token's kept."""
    side = int((pos_embed.shape[1] - 1) ** 0.5)
    if grid == (side, side):
        return pos_embed
    grid_1DYX = pos_embed[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    resized = F.interpolate(grid_1DYX, size=list(grid), mode="bicubic", align_corners=False)
    return torch.cat([pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def time_embed_for(time_embed: Tensor, num_frames: int) -> Tensor:
    """Time embedding [1, T, D] for another clip length: linear in time, but the first entry for a single frame,
    which is what the published nearest-neighbour resize gives."""
    if num_frames == time_embed.shape[1]:
        return time_embed
    if num_frames == 1:
        return time_embed[:, :1]
    resized = F.interpolate(time_embed.transpose(1, 2), size=num_frames, mode="linear", align_corners=False)
    return resized.transpose(1, 2)
