"""Embeddings: patches, and positions and times for any frame size and clip length."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.models.backbone import Resize
from cover.models.kernels.backend import compute_dtype
from cover.models.layers import MIDDLE_GREY, for_uint8


class PatchEmbed(nn.Module):
    """A linear map of each patch of each frame.

    Its weights have the shape of a convolution, as published. It is computed as a matrix product, because that makes
    the backward pass faster (docs/performance.md).
    """

    def __init__(self, patch_size_px: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size_px, stride=patch_size_px)

    def forward(self, frames_FCYX: Tensor, mean_C11: Tensor, std_C11: Tensor) -> tuple[Tensor, Tensor]:
        """Embed patches. uint8 frames are normalised by changed weights and bias (`for_uint8`).

        Args:
            frames_FCYX: uint8, or normalised float.
            mean_C11: The mean to normalise uint8 frames with, for RGB in 0..1.
            std_C11: The standard deviation to normalise them with.

        Returns:
            The patches without bias [F, 1+N, D], zero for the class token, and the bias [D].
        """
        weight_DCYX, bias_D = self.proj.weight, cast(Tensor, self.proj.bias)
        dtype = compute_dtype(weight_DCYX)
        cut_FNP = cut_patches(frames_FCYX, self.proj.kernel_size[0])
        patches_FNP = cut_FNP.new_zeros(len(cut_FNP), 1 + cut_FNP.shape[1], cut_FNP.shape[2], dtype=dtype)
        patches_FNP[:, 1:] = cut_FNP
        if frames_FCYX.dtype == torch.uint8:
            patches_FNP[:, 1:] -= MIDDLE_GREY
            weight_DCYX, bias_D = for_uint8(weight_DCYX, bias_D, mean_C11, std_C11)
        return F.linear(patches_FNP, weight_DCYX.flatten(1).to(dtype)), bias_D


def cut_patches(frames_FCYX: Tensor, patch_px: int) -> Tensor:
    """Cut frames into patches, row by row. Pixels left over on the right and at the bottom are dropped.

    Args:
        frames_FCYX: Frames of any type.
        patch_px: Side of a patch.

    Returns:
        [F, N, C · patch²].
    """
    rows, columns = (side // patch_px for side in frames_FCYX.shape[2:])
    whole = frames_FCYX[..., : rows * patch_px, : columns * patch_px]
    cut = whole.unflatten(3, (columns, patch_px)).unflatten(2, (rows, patch_px))
    out: Tensor = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    return out


def resize_pos_embed(pos_embed: Tensor, grid: tuple[int, ...], resize: Resize = "smooth") -> Tensor:
    """Resize a position embedding to another grid. The class token's part is unchanged.

    Args:
        pos_embed: [1, 1+N, D], for a square grid.
        grid: (rows, columns) of patches.
        resize: How to resize.

    Returns:
        [1, 1 + rows · columns, D].
    """
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
    """Resize a time embedding to another clip length.

    A single frame gets the first entry, as with the published nearest-neighbour resize.

    Args:
        time_embed: [1, T, D].
        num_frames: The other length.
        resize: How to resize.

    Returns:
        [1, num_frames, D].
    """
    if num_frames == time_embed.shape[1]:
        return time_embed
    if num_frames == 1:
        return time_embed[:, :1]
    time_1DT = time_embed.transpose(1, 2)
    if resize == "published":
        return F.interpolate(time_1DT, size=num_frames, mode="nearest").transpose(1, 2)
    return F.interpolate(time_1DT, size=num_frames, mode="linear", align_corners=False).transpose(1, 2)
