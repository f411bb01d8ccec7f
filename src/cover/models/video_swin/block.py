"""A block of Video Swin: attention within windows, then an MLP, each in a residual branch; and patch merging.

    x += attention(LN(x))     within each window; every other block shifts the windows by half their size
    x += MLP(LN(x))

Tokens are in the order of the clips, [F, N, D]: a clip with T slots of time has T consecutive rows of N tokens. Only
attention reads them in the order of windows (kernels/window.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.folding import fold
from cover.models.kernels.products import Input, Weight, linear
from cover.models.kernels.relative_bias import Size
from cover.models.kernels.residual import Residual, Tokens, add_normalise
from cover.models.kernels.window import WindowAttention, Windows, window_branch
from cover.models.layers import Mlp
from cover.models.linear import Linear, after_norm, cached_weight, in_dtype, prepared
from cover.models.packing import Group

BRANCHES = 2
"""Residual branches of a block: attention, MLP."""


class Attention(nn.Module):
    """Multi-head attention within windows, with a bias for each head and distance of two tokens."""

    def __init__(self, width: int, num_heads: int, window: Size) -> None:
        super().__init__()
        self.num_heads, self.window = num_heads, window
        slots, rows, columns = (2 * length - 1 for length in window)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(slots * rows * columns, num_heads))
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, normed_FND: Input, norm: nn.LayerNorm, windows: Windows) -> Tensor:
        """Return the values of the residual, [F, N, D], without the bias of the output projection.

        Args:
            normed_FND: Normalised tokens, as products read them.
            norm: The norm that gives the affine part. It belongs to tokens, not to empty places of windows.
            windows: How the tokens are cut into windows.
        """
        dtype = compute_dtype(normed_FND.exact)
        weight, bias = after_norm(norm, self.qkv, dtype)
        attention = WindowAttention(weight, in_dtype(self.proj, dtype), self.num_heads, self.window, windows)
        return window_branch(normed_FND, bias, self.qkv.bias, self.relative_position_bias_table, attention)


class Block(nn.Module):
    """Attention within windows and an MLP, with the published parameter names.

    A block first adds the residual of the block before it, and does not add that of its own MLP. So every residual is
    added and the sum normalised in one step (kernels/residual.py).
    """

    def __init__(self, width: int, num_heads: int, window: Size, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, num_heads, window)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, 4 * width)

    def forward(
        self,
        tokens: Tokens,
        residual: Residual,
        windows: Windows,
        groups: tuple[Group, ...],
        scales: tuple[Tensor | None, Tensor | None],
    ) -> tuple[Tokens, Residual]:
        """Run the block.

        Args:
            tokens: The tokens [F, N, D], without `residual`.
            residual: The output of the block before this one.
            windows: How the tokens are cut into windows.
            groups: The number of slots of time, and the number of clips, of each group.
            scales: The drop-path factors of attention and MLP, each [F], or None if nothing is dropped.

        Returns:
            The tokens, and the residual that the next block adds to them.
        """
        tokens, normed_FND = add_normalise(tokens, residual, groups, self.norm1.eps, float8=self.attn.qkv.float8)
        values_FND = self.attn(normed_FND, self.norm1, windows)
        residual = Residual(values_FND, self.attn.proj.bias, scales[0], "all")
        tokens, normed_FND = add_normalise(tokens, residual, groups, self.norm2.eps, float8=self.mlp.fc1.float8)
        # A copy of the bias, because FSDP frees the parameters of a block before the next block adds them.
        return tokens, Residual(self.mlp(normed_FND, self.norm2), self.mlp.fc2.bias.clone(), scales[1], "all")


class PatchMerging(nn.Module):
    """Joins 2 × 2 neighbouring tokens of a slot into one token of twice the width."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width, eps=eps)
        self.reduction = Linear(4 * width, 2 * width, bias=False)

    def forward(self, tokens: Tokens, residual: Residual, groups: tuple[Group, ...], sides: tuple[int, int]) -> Tensor:
        """Merge the tokens of all clips. An odd row or column at the end is joined with zeros.

        Args:
            tokens: The tokens [F, N, D], without `residual`.
            residual: The output of the block before.
            groups: The number of slots of time, and the number of clips, of each group.
            sides: The rows and columns of tokens in a slot.

        Returns:
            [F, N / 4, 2 · D].
        """
        if any(side % 2 for side in sides):  # no bias is added to the zeros
            tokens, residual = start(_added(tokens, residual), residual.values.dtype)
        tokens = tokens.map(lambda part: _joined(part, sides))
        residual = residual._replace(values=_joined(residual.values, sides), bias=residual.bias.repeat(4))
        float8 = self.reduction.float8
        _, normed_FND = add_normalise(tokens, residual, groups, self.norm.eps, float8=float8)
        dtype = compute_dtype(normed_FND.exact)
        weight, bias = cached_weight(self.reduction, dtype, lambda: self._folded(dtype))
        return linear(normed_FND, weight, bias)

    def _folded(self, dtype: torch.dtype) -> tuple[Weight, Tensor]:
        """Return weight and bias of `reduction` with the affine part of the norm multiplied in."""
        no_bias = self.reduction.weight.new_zeros(self.reduction.out_features)
        weight, bias = fold(self.norm, self.reduction, dtype, no_bias)
        return prepared(weight, self.reduction, dtype), bias


def start(values_FND: Tensor, dtype: torch.dtype) -> tuple[Tokens, Residual]:
    """Return tokens that are zero, and a residual that makes them `values_FND`.

    Args:
        values_FND: The first tokens of a stage.
        dtype: The type that its blocks compute in.
    """
    bias_D = values_FND.new_zeros(values_FND.shape[-1], dtype=torch.promote_types(values_FND.dtype, torch.float32))
    zeros = Tokens.of(bias_D.new_zeros(1, 1, 1), dtype).map(lambda part: part.expand_as(values_FND))
    return zeros, Residual(values_FND, bias_D, None, "all")


def _added(tokens: Tokens, residual: Residual) -> Tensor:
    """Add a residual to tokens."""
    values_FND = residual.values + residual.bias
    return tokens.exact + (values_FND if residual.scale is None else values_FND * residual.scale[:, None, None])


def _joined(tokens_FND: Tensor, sides: tuple[int, int]) -> Tensor:
    """Join 2 × 2 neighbouring tokens: [F, rows · columns, D] → [F, N / 4, 4 · D]."""
    rows, columns = sides
    part = F.pad(tokens_FND.unflatten(1, sides), (0, 0, 0, columns % 2, 0, rows % 2))
    part = part.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
    out: Tensor = part.permute(0, 1, 3, 4, 2, 5).flatten(3).flatten(1, 2)
    return out
