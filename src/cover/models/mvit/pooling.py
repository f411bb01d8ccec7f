"""Grids of tokens, and how they are pooled.

The tokens of a batch are one list of rows [R, …]: grid after grid and clip after clip, in the order of time slots, rows
and columns; then the class tokens of all clips. So linear layers and norms run once over all rows, and the tokens of
clips of one size are a view [B, T, Y, X, …], whose last axis is channels: that is how the convolutions take them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.models.kernels.pooling import pool_normalise

Size = tuple[int, int, int]
"""(time slots, rows, columns)."""


class Grid(NamedTuple):
    """Clips of equal size.

    Attributes:
        size: The tokens of each clip.
        num_clips: B.
    """

    size: Size
    num_clips: int

    def pooled(self, stride: int) -> Grid:
        """Return the grid after pooling rows and columns by a stride."""
        slots, rows, columns = self.size
        return Grid((slots, -(-rows // stride), -(-columns // stride)), self.num_clips)

    @property
    def num_rows(self) -> int:
        """The tokens of all clips."""
        return prod(self.size) * self.num_clips

    def view(self, rows_R: Tensor) -> Tensor:
        """Return tokens [R, …] as [B, T, Y, X, …]."""
        tokens: Tensor = rows_R.unflatten(0, (self.num_clips, *self.size))
        return tokens


def split_rows(rows_R: Tensor, grids: Sequence[Grid]) -> tuple[list[Tensor], Tensor]:
    """Split the tokens of all clips.

    Args:
        rows_R: [R, …].
        grids: The sizes of the clips.

    Returns:
        The tokens of each grid [B, T, Y, X, …], and the class tokens of all clips, if there are any.
    """
    sizes = [grid.num_rows for grid in grids]
    *parts, class_rows = rows_R.split([*sizes, rows_R.shape[0] - sum(sizes)])
    return [grid.view(part) for grid, part in zip(grids, parts, strict=True)], class_rows


class HeadPool(NamedTuple):
    """Depthwise convolutions of attention heads, each followed by a layer norm over the head.

    All heads share the weights. N is 1 for queries, and 2 for keys and values, which are pooled together.

    Attributes:
        kernel_NETYX: The convolutions.
        weight_N1E: The weights of the norms.
        bias_N1E: Their biases.
        eps: Added to the variance.
        stride: Of rows and columns. Slots of time have a stride of 1.
    """

    kernel_NETYX: Tensor
    weight_N1E: Tensor
    bias_N1E: Tensor
    eps: float
    stride: int

    @classmethod
    def of(cls, convolutions: Sequence[nn.Module], norms: Sequence[nn.Module], stride: int) -> HeadPool:
        """Take the weights of layers.

        Args:
            convolutions: N of them.
            norms: N of them.
            stride: Of rows and columns.
        """
        kernel, weight, bias = (
            torch.stack([cast(Tensor, getattr(layer, name)) for layer in layers])
            for layers, name in ((convolutions, "weight"), (norms, "weight"), (norms, "bias"))
        )
        return cls(kernel[:, :, 0], weight[:, None], bias[:, None], cast(nn.LayerNorm, norms[0]).eps, stride)

    def __call__(self, heads_BTYXNHE: Tensor) -> Tensor:
        """Pool clips.

        A clip of one slot meets only the middle of a kernel, so the rest of it is left out.

        Args:
            heads_BTYXNHE: The heads of each token.

        Returns:
            [B, T, Y / stride, X / stride, N, H, E].
        """
        kernel_NETYX = self.kernel_NETYX
        if heads_BTYXNHE.shape[1] == 1:
            kernel_NETYX = kernel_NETYX[:, :, middle(kernel_NETYX.shape[2])]
        return pool_normalise(heads_BTYXNHE, kernel_NETYX, self.weight_N1E, self.bias_N1E, self.stride, self.eps)

    def normalise(self, heads_NHE: Tensor) -> Tensor:
        """Normalise heads [..., N, H, E] without pooling them."""
        normed = F.layer_norm(heads_NHE, heads_NHE.shape[-1:], eps=self.eps)
        return (normed * self.weight_N1E + self.bias_N1E).to(heads_NHE.dtype)


def middle(length: int) -> slice:
    """Return the middle of an odd number of places."""
    return slice(length // 2, length // 2 + 1)


def max_pool(rows_RD: Tensor, grids: Sequence[Grid], stride: int) -> Tensor:
    """Take the maximum over neighbouring rows and columns of tokens. Class tokens stay as they are.

    Args:
        rows_RD: The tokens of all clips.
        grids: Their sizes.
        stride: How many rows and columns become one. Windows overlap by one.

    Returns:
        The tokens of the pooled grids.
    """
    parts, class_rows = split_rows(rows_RD, grids)
    pooled = []
    for part_BTYXD in parts:
        frames = part_BTYXD.flatten(0, 1).permute(0, 3, 1, 2)  # channels last in memory: not copied
        frames = F.max_pool2d(frames, stride + 1, stride, (stride + 1) // 2)
        pooled.append(frames.permute(0, 2, 3, 1).flatten(0, 2))
    return torch.cat([*pooled, class_rows])
