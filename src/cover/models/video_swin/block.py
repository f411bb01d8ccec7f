"""A block of Video Swin: attention within windows, then an MLP, each in a residual branch; and patch merging.

    x += attention(LN(x))     within each window; every other block shifts the windows by half their size
    x += MLP(LN(x))

Norms, linear layers and the MLP run once over the tokens of all clips, attention once for each kind of window.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.models.kernels.backend import compute_dtype
from cover.models.video_swin.windows import Grid, Run, Size, Windows, relative_bias

BRANCHES = 2
"""Residual branches of a block: attention, MLP."""


class WindowAttention(nn.Module):
    """Multi-head attention within windows, with a bias for each head and distance of two tokens."""

    def __init__(self, width: int, num_heads: int, window: Size) -> None:
        super().__init__()
        self.num_heads, self.window = num_heads, window
        slots, rows, columns = (2 * length - 1 for length in window)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(slots * rows * columns, num_heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, places_MD: Tensor, runs: Sequence[Run]) -> Tensor:
        """Mix the tokens of each window: [M, D] → [M, D].

        Args:
            places_MD: The tokens in windows.
            runs: The windows, in order.
        """
        qkv = self.qkv(places_MD).unflatten(-1, (3, self.num_heads, -1))
        table = self.relative_position_bias_table
        biases = {size: relative_bias(table, size, self.window) for size in {run.kind.size: None for run in runs}}
        mixed = []
        for run, part in zip(runs, qkv.split([run.num_places for run in runs]), strict=True):
            query, key, value = part.unflatten(0, (run.num_windows, -1)).permute(2, 0, 3, 1, 4)
            bias_HLL = biases[run.kind.size]
            if run.mask_LL is not None:
                bias_HLL = bias_HLL + run.mask_LL
            bias = bias_HLL.to(query.dtype)[None]
            mixed_WLHE = F.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2)
            if torch.compiler.is_exporting():  # ONNX's attention returns another memory layout than torch's
                mixed_WLHE = mixed_WLHE.clone(memory_format=torch.contiguous_format)
            mixed.append(mixed_WLHE.flatten(2).flatten(0, 1))
        out: Tensor = self.proj(torch.cat(mixed))
        return out


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens_ND: Tensor) -> Tensor:
        """[N, D] → [N, D]."""
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens_ND)))
        return out


class Block(nn.Module):
    """Attention within windows and an MLP, with the published parameter names."""

    def __init__(self, width: int, num_heads: int, window: Size, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = WindowAttention(width, num_heads, window)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width)

    def forward(self, tokens_ND: Tensor, windows: Windows, scales_RN1: Tensor | None) -> Tensor:
        """Run the block: [N, D] → [N, D].

        Args:
            tokens_ND: The tokens of all clips.
            windows: How they are cut into windows.
            scales_RN1: The drop-path factor of each branch for each token; None if nothing is dropped.
        """
        normed_ND = self.norm1(tokens_ND)
        places_MD = windows.partition(normed_ND.to(compute_dtype(normed_ND)))
        mixed_ND = windows.merge(self.attn(places_MD, windows.runs))
        tokens_ND = tokens_ND + (mixed_ND if scales_RN1 is None else mixed_ND * scales_RN1[0])
        hidden_ND = self.mlp(self.norm2(tokens_ND))
        out: Tensor = tokens_ND + (hidden_ND if scales_RN1 is None else hidden_ND * scales_RN1[1])
        return out


class PatchMerging(nn.Module):
    """Joins 2 × 2 neighbouring tokens of a slot into one token of twice the width."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width, eps=eps)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, tokens_ND: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Merge the tokens of all clips. An odd row or column at the end is joined with zeros.

        Args:
            tokens_ND: The tokens.
            grids: The sizes of the clips.

        Returns:
            [N / 4, 2 · D], for the grids of `merged`.
        """
        joined = []
        for tokens, ((slots, rows, columns), num_clips) in zip(split(tokens_ND, grids), grids, strict=True):
            part = tokens.unflatten(0, (num_clips * slots, rows, columns))
            part = F.pad(part, (0, 0, 0, columns % 2, 0, rows % 2))
            part = part.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
            joined.append(part.permute(0, 1, 3, 4, 2, 5).flatten(3).flatten(0, 2))
        out: Tensor = self.reduction(self.norm(torch.cat(joined)))
        return out


def split(tokens_ND: Tensor, grids: Sequence[Grid]) -> tuple[Tensor, ...]:
    """Split the tokens of all clips into those of each grid."""
    sizes = [slots * rows * columns * num_clips for (slots, rows, columns), num_clips in grids]
    parts: tuple[Tensor, ...] = tokens_ND.split(sizes)
    return parts


def merged(grid: Grid) -> Grid:
    """Return the grid after patch merging."""
    slots, rows, columns = grid.size
    return Grid((slots, (rows + 1) // 2, (columns + 1) // 2), grid.num_clips)
