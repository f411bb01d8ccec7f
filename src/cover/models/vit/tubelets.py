"""Tubelets: how clips of any lengths become rows of tokens, and what is left of them at the end.

Batches arrive frame-major, but tokens are packed clip by clip. A group of B clips with T' tubelets in time has B · T'
consecutive rows of N tokens each, so the tokens of a clip are one sequence without a copy:

    k400 [T=16, B=2] ── 2 · 8 rows ─┐
    imagenet [T=1, B=4] ── 4 rows ──┴─ tokens [20, N, D]

An image is one row, like a clip of one tubelet.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.residual import Residual, Tokens
from cover.models.layers import MIDDLE_GREY, for_uint8
from cover.models.packing import Group, PackedClips, unpack


def tubelet_groups(groups: tuple[Group, ...], tubelet_size: int) -> tuple[Group, ...]:
    """Return groups with tubelets for frames. An image and a video of one tubelet are of equal length.

    Args:
        groups: The number of frames, and the number of clips, of each group.
        tubelet_size: Frames of a tubelet, which divide those of each clip but images.

    Returns:
        The number of tubelets in time, and the number of clips, of each group.
    """
    merged: list[Group] = []
    for num_frames, num_clips in groups:
        num_rows = -(-num_frames // tubelet_size)
        if merged and merged[-1].num_frames == num_rows:
            num_clips += merged.pop().num_clips
        merged.append(Group(num_rows, num_clips))
    return tuple(merged)


class TubeletEmbed(nn.Module):
    """A linear map of each tubelet: a patch of some consecutive frames.

    Its weights have the shape of a convolution, as published. An image stands for a tubelet of equal frames, so its
    patches go through the sum of the kernel over time, at a part of the cost.

    Args:
        tubelet_size: Frames of a tubelet.
        patch_size_px: Side of a patch.
        width: The size of a token, D.
    """

    def __init__(self, tubelet_size: int, patch_size_px: int, width: int) -> None:
        super().__init__()
        kernel = (tubelet_size, patch_size_px, patch_size_px)
        self.proj = nn.Conv3d(3, width, kernel, stride=kernel)

    def forward(self, clips: PackedClips) -> tuple[Tensor, Tensor]:
        """Embed tubelets. uint8 frames are normalised by changed weights and bias (`for_uint8`).

        Args:
            clips: Clips whose frames the tubelets divide, and images.

        Returns:
            The tokens without bias [F, N, D], clip by clip, and the bias [D].
        """
        weight_DCTYX, bias_D = self.proj.weight, cast(Tensor, self.proj.bias)
        dtype, tubelet, patch_px = compute_dtype(weight_DCTYX), weight_DCTYX.shape[2], weight_DCTYX.shape[3]
        is_uint8 = clips.frames_FCYX.dtype == torch.uint8
        weight_DCYX = weight_DCTYX.flatten(2, 3)
        if is_uint8:
            weight_DCYX, bias_D = for_uint8(weight_DCYX, bias_D, clips.mean_C11, clips.std_C11)
        kernel_DCTP = weight_DCYX.unflatten(2, (tubelet, patch_px)).flatten(3)
        parts = []
        for group in self._of_one_kernel(clips):
            span = 1 if len(group[0]) == 1 else tubelet
            cut_FNP = torch.cat([cut_tubelets(frames_TBCYX, span, patch_px) for frames_TBCYX in group]).to(dtype)
            kernel = kernel_DCTP if span > 1 else kernel_DCTP.sum(2)
            parts.append(F.linear(cut_FNP - MIDDLE_GREY if is_uint8 else cut_FNP, kernel.flatten(1).to(dtype)))
        return torch.cat(parts), bias_D

    def _of_one_kernel(self, clips: PackedClips) -> list[list[Tensor]]:
        """Return the frames [T,B,C,Y,X] of neighbouring groups together if they share a kernel."""
        together: list[list[Tensor]] = []
        for frames_TBCYX in unpack(clips.frames_FCYX, clips.groups):
            if together and len(frames_TBCYX) > 1:  # the longest come first, images last
                together[-1].append(frames_TBCYX)
            else:
                together.append([frames_TBCYX])
        return together


def cut_tubelets(frames_TBCYX: Tensor, tubelet: int, patch_px: int) -> Tensor:
    """Cut clips into tubelets, clip by clip. Pixels left over on the right and at the bottom are dropped.

    Args:
        frames_TBCYX: Frames of any type.
        tubelet: Frames of a tubelet, which divide T.
        patch_px: Side of a patch.

    Returns:
        [B · T / tubelet, N, C · tubelet · patch²].
    """
    rows, columns = (side // patch_px for side in frames_TBCYX.shape[3:])
    whole = frames_TBCYX[..., : rows * patch_px, : columns * patch_px]
    cut = whole.unflatten(4, (columns, patch_px)).unflatten(3, (rows, patch_px)).unflatten(0, (-1, tubelet))
    out: Tensor = cut.permute(2, 0, 4, 6, 3, 1, 5, 7).flatten(4).flatten(2, 3).flatten(0, 1)
    return out


def clip_tokens(tokens_FND: Tensor, groups: tuple[Group, ...]) -> list[Tensor]:
    """Return the tokens of each clip as one sequence.

    Args:
        tokens_FND: Tokens, clip by clip.
        groups: The number of tubelets in time, and the number of clips, of each group.

    Returns:
        Views [B, T'·N, D], one per group.
    """
    parts = zip(tokens_FND.split([t * b for t, b in groups]), groups, strict=True)
    return [part.unflatten(0, (b, t)).flatten(1, 2) for part, (t, b) in parts]


def mean_tokens(tokens: Tokens, residual: Residual, groups: tuple[Group, ...]) -> Tensor:
    """Add a residual, and return the mean over the tokens of each clip.

    The mean is taken of each part alone, so the sums of all tokens are never in memory.

    Args:
        tokens: [F, N, D].
        residual: What to add to them.
        groups: The number of tubelets in time, and the number of clips, of each group.

    Returns:
        [B, D], in float32 or the type of the tokens if that is wider.
    """
    dtype = torch.promote_types(tokens.values.dtype, torch.float32)
    added_FD = residual.values.mean(1, dtype=dtype) + residual.bias
    if residual.scale is not None:
        added_FD = added_FD * residual.scale[:, None]
    total_FD = tokens.values.mean(1, dtype=dtype) + added_FD
    if tokens.rest is not None:
        total_FD = total_FD + tokens.rest.mean(1, dtype=dtype)
    sizes = [t * b for t, b in groups]
    parts = [part.unflatten(0, (b, t)).mean(1) for part, (t, b) in zip(total_FD.split(sizes), groups, strict=True)]
    return torch.cat(parts)
