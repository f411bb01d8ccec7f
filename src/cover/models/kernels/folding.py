"""The affine part of a LayerNorm, multiplied into the linear layer after it.

    W (n ∘ x + m) + b = (W diag(n)) x + (b + W m)

Only the normalised x passes between the two. The gradients of n and m follow from those of the folded weight and bias,
without another pass over the tokens. The kernel writes the folded weight in the type that matrix products compute in.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from cover.models.kernels.backend import cdiv, column_sums, has_kernel, jit, power_of_two, tl

BLOCK_ROWS = 8


def fold(
    norm: nn.LayerNorm, linear: nn.Linear, dtype: torch.dtype, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Multiply the affine part of a layer norm into the linear layer after it.

    Args:
        norm: The layer norm, [D].
        linear: The linear layer, from D to O.
        dtype: The type of matrix products. The plain form keeps the type of the weights.
        bias: The bias [O] of the linear layer, if it has none of its own.

    Returns:
        Weight [O, D] and bias [O] of the linear layer for tokens that are normalised without the affine part.
    """
    weight, bias = linear.weight, linear.bias if bias is None else bias
    if has_kernel(weight):
        out: tuple[Tensor, Tensor] = Fold.apply(weight, bias, norm.weight, norm.bias, dtype)
        return out
    return plain_fold(weight, bias, norm.weight, norm.bias)


def plain_fold(weight: Tensor, bias: Tensor, norm_weight: Tensor, norm_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the folded weight and bias, in the type of the weights."""
    return weight * norm_weight, torch.addmv(bias, weight, norm_bias)


class Fold(Function):
    """`plain_fold` in one pass over the weight, in the type of matrix products."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, norm_weight: Tensor, norm_bias: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        num_rows, width = weight.shape
        folded, folded_bias = torch.empty_like(weight, dtype=dtype), torch.empty_like(bias, dtype=dtype)
        _fold[(cdiv(num_rows, BLOCK_ROWS),)](
            weight, bias, norm_weight, norm_bias, folded, folded_bias, num_rows,
            WIDTH=width, BLOCK=power_of_two(width), ROWS=BLOCK_ROWS,
        )  # fmt: skip
        ctx.save_for_backward(weight, norm_weight, norm_bias)
        return folded, folded_bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        folded_gradient, folded_bias_gradient = gradients
        weight, norm_weight, norm_bias = ctx.saved_tensors
        num_rows, width = weight.shape
        num_programs = cdiv(num_rows, BLOCK_ROWS)
        gradient = torch.empty_like(weight)
        parts = torch.empty(num_programs, 2 * width, dtype=torch.float32, device=weight.device)
        _unfold[(num_programs,)](
            weight, norm_weight, norm_bias, folded_gradient.contiguous(), folded_bias_gradient.contiguous(),
            gradient, parts, num_rows, WIDTH=width, BLOCK=power_of_two(width), ROWS=BLOCK_ROWS,
        )  # fmt: skip
        norm_weight_gradient, norm_bias_gradient = column_sums(parts, norm_weight.dtype).split(width)
        bias_gradient = folded_bias_gradient.to(weight.dtype)
        return gradient, bias_gradient, norm_weight_gradient, norm_bias_gradient, None


@jit()
def _fold(
    weight, bias, norm_weight, norm_bias, folded, folded_bias, num_rows,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    rows, columns = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    inside = columns < WIDTH
    here = (rows < num_rows)[:, None] & inside[None, :]
    at = rows[:, None] * WIDTH + columns[None, :]
    w = tl.load(weight + at, mask=here, other=0.0).to(tl.float32)
    n = tl.load(norm_weight + columns, mask=inside, other=0.0).to(tl.float32)
    m = tl.load(norm_bias + columns, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(bias + rows, mask=rows < num_rows, other=0.0).to(tl.float32)
    tl.store(folded + at, w * n[None, :], mask=here)
    tl.store(folded_bias + rows, b + tl.sum(w * m[None, :], 1), mask=rows < num_rows)


@jit()
def _unfold(
    weight, norm_weight, norm_bias, folded_gradient, folded_bias_gradient, gradient, parts, num_rows,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    rows, columns = program * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    inside = columns < WIDTH
    here = (rows < num_rows)[:, None] & inside[None, :]
    at = rows[:, None] * WIDTH + columns[None, :]
    w = tl.load(weight + at, mask=here, other=0.0).to(tl.float32)
    g = tl.load(folded_gradient + at, mask=here, other=0.0).to(tl.float32)
    h = tl.load(folded_bias_gradient + rows, mask=rows < num_rows, other=0.0).to(tl.float32)
    n = tl.load(norm_weight + columns, mask=inside, other=0.0).to(tl.float32)
    m = tl.load(norm_bias + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(gradient + at, g * n[None, :] + h[:, None] * m[None, :], mask=here)
    part = parts + program * (2 * WIDTH) + columns
    tl.store(part, tl.sum(g * w, 0), mask=inside)
    tl.store(part + WIDTH, tl.sum(h[:, None] * w, 0), mask=inside)
