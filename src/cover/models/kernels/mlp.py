"""The MLP: linear, GELU, linear. The backward pass keeps only the hidden tensor before the GELU.

In one pass, the kernel computes the tensor after the GELU again, the gradient through the GELU, and the sum for the
gradient of the first bias. In float8 it also rounds the first two, and the gradients of both weights read them. In
torch's own operations these gradients are in bfloat16.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from cover.models.kernels.backend import cdiv, column_sums, has_kernel, jit, power_of_two, tl
from cover.models.kernels.float8 import DTYPE, ROUNDED_NUMBERS, Float8, empty, inverse, store_float8
from cover.models.kernels.products import (
    Input,
    Operand,
    Weight,
    data_gradient,
    linear,
    matched,
    pointers,
    product,
    save,
    saved,
    weight_gradient,
)

BLOCK_ROWS, BLOCK_COLUMNS, ROWS_PER_PROGRAM = 2, 1024, 64
FLOAT8_ROWS, FLOAT8_ROWS_PER_PROGRAM, FLOAT8_WARP_COLUMNS = 1, 64, 256
"""The same where the results are rounded to float8. A program has all columns, because a scale is that of a row. A
thread has 8 of them, because its registers hold four tensors."""


Approximate = Literal["none", "tanh", "sigmoid"]
"""Which GELU: the exact one, or its approximation by tanh or by x / (1 + exp(-1.702 x)). It belongs to the weights."""


def mlp(
    normed_FND: Input, weight1: Weight, bias1: Tensor, weight2: Weight, approximate: Approximate = "none"
) -> Tensor:
    """Compute GELU(x W1ᵀ + b1) W2ᵀ. The second bias is added with the residual.

    Args:
        normed_FND: x, [F, N, D] for any N.
        weight1: W1, [4·D, D].
        bias1: b1, [4·D].
        weight2: W2, [O, 4·D].
        approximate: Which GELU.

    Returns:
        [F, N, O].
    """
    if has_kernel(normed_FND.exact):
        arguments = normed_FND.exact, weight1.exact, bias1, weight2.exact, normed_FND, weight1, weight2, approximate
        out: Tensor = MlpFunction.apply(*arguments)
        return out
    active = plain_gelu(linear(normed_FND, weight1, bias1), approximate)
    return linear(Input.of(active, weight2.forward), weight2)


class MlpFunction(Function):
    """`mlp` with a backward pass that needs the normalised tokens and the hidden values before the GELU."""

    @staticmethod
    def forward(
        ctx: Any,
        _normed: Tensor,
        _weight1: Tensor,
        bias1: Tensor,
        _weight2: Tensor,
        normed: Input,
        weight1: Weight,
        weight2: Weight,
        approximate: Approximate,
    ) -> Tensor:
        hidden = product(normed.operand, weight1.forward, bias1)
        active = gelu(hidden, approximate, float8=weight2.rows is not None)
        _, scale = pointers(active)
        save(ctx, normed.operand, weight1.backward, weight2.backward, hidden, scale)
        ctx.approximate = approximate
        return product(active, weight2.forward)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normed, weight1, weight2, hidden, scale = saved(ctx)
        g = matched(gradients[0].flatten(0, 1), weight2)
        active_gradient_MD = data_gradient(g, weight2)
        active, hidden_gradient, bias1_gradient = gelu_backward(
            hidden.flatten(0, 1), active_gradient_MD, scale, ctx.approximate
        )
        weight2_gradient = weight_gradient(g, active)
        weight1_gradient = weight_gradient(hidden_gradient, normed)
        normed_gradient = data_gradient(hidden_gradient, weight1).view(*gradients[0].shape[:-1], -1)
        return normed_gradient, weight1_gradient, bias1_gradient, weight2_gradient, *(None,) * 4


def plain_gelu(hidden: Tensor, approximate: Approximate) -> Tensor:
    """Compute a GELU in torch's own operations."""
    if approximate == "sigmoid":
        return hidden * torch.sigmoid(1.702 * hidden)
    return F.gelu(hidden, approximate=approximate)


def gelu(hidden: Tensor, approximate: Approximate = "none", *, float8: bool = False) -> Operand:
    """Compute GELU(x): x Φ(x), or one of its approximations.

    Args:
        hidden: [..., K].
        approximate: Which GELU.
        float8: Whether to round the result to float8.
    """
    if float8:
        rounded, block = empty(hidden.shape, hidden.device), power_of_two(hidden.shape[-1])
        num_rows, rows = rounded.scale.numel(), max(1, ROUNDED_NUMBERS // block)
        _gelu_float8[(cdiv(num_rows, rows),)](
            hidden, *rounded, num_rows, APPROXIMATE=approximate, WIDTH=hidden.shape[-1], BLOCK=block, ROWS=rows
        )
        return rounded
    out = torch.empty_like(hidden)
    block = BLOCK_ROWS * BLOCK_COLUMNS
    _gelu[(cdiv(hidden.numel(), block),)](hidden, out, hidden.numel(), APPROXIMATE=approximate, BLOCK=block)
    return out


def gelu_backward(
    hidden_MD: Tensor, gradient_MD: Tensor, scale: Tensor | None = None, approximate: Approximate = "none"
) -> tuple[Operand, Operand, Tensor]:
    """Compute what the backward pass of the MLP needs.

    Args:
        hidden_MD: The hidden values before the GELU, [M, 4·D].
        gradient_MD: The gradient of the values after the GELU, [M, 4·D]. It may be overwritten.
        scale: The scales of GELU(hidden) from the forward pass, if the results are to be in float8.
        approximate: Which GELU.

    Returns:
        GELU(hidden) for the gradient of a weight, the gradient of `hidden_MD`, and its sum over the rows.
    """
    num_rows, width = hidden_MD.shape
    active: Operand
    hidden_gradient: Operand
    if scale is None:
        active, hidden_gradient = torch.empty_like(hidden_MD), gradient_MD
        rows, columns, per_program, num_warps = BLOCK_ROWS, BLOCK_COLUMNS, ROWS_PER_PROGRAM, 4
    else:
        active = Float8(torch.empty_like(hidden_MD, dtype=DTYPE), scale.flatten())
        hidden_gradient = empty(hidden_MD.shape, hidden_MD.device)
        rows, columns, per_program = FLOAT8_ROWS, power_of_two(width), FLOAT8_ROWS_PER_PROGRAM
        num_warps = min(32, max(1, columns // FLOAT8_WARP_COLUMNS))
    num_programs = cdiv(num_rows, per_program)
    sums = torch.empty(num_programs, width, dtype=torch.float32, device=hidden_MD.device)
    _gelu_backward[(num_programs, cdiv(width, columns))](
        hidden_MD, gradient_MD, *pointers(active), *pointers(hidden_gradient), sums, num_rows, width,
        ROWS=rows, COLUMNS=columns, PER_PROGRAM=per_program, APPROXIMATE=approximate, FLOAT8=scale is not None,
        num_warps=num_warps,
    )  # fmt: skip
    return active, hidden_gradient, column_sums(sums, hidden_MD.dtype)


@jit()
def _gate(x, APPROXIMATE: tl.constexpr):
    """GELU(x) / x, and its derivative.

    Φ(x) and exp(-x²/2) are exact to 1e-7 (Abramowitz & Stegun 7.1.26), in half the instructions of erf and exp.
    """
    if APPROXIMATE == "tanh":  # (1 + tanh u) / 2 = 1 / (1 + exp(-2u)) with u = √(2/π) (x + 0.044715 x³)
        gate = 1.0 / (1.0 + tl.exp(-1.5957691216057308 * x * (1.0 + 0.044715 * x * x)))
        slope = gate * (1.0 - gate) * 1.5957691216057308 * (1.0 + 3 * 0.044715 * x * x)
    elif APPROXIMATE == "sigmoid":
        gate = 1.0 / (1.0 + tl.exp(-1.702 * x))
        slope = gate * (1.0 - gate) * 1.702
    else:
        bell = tl.exp(-0.5 * x * x)
        t = 1.0 / (1.0 + 0.23164189 * tl.abs(x))
        series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
        above = 0.5 * bell * series
        gate = tl.where(x < 0, above, 1.0 - above)
        slope = bell * 0.3989422804014327  # 1 / √(2π)
    return gate, slope


@jit()
def _gelu(hidden, out, size, APPROXIMATE: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(hidden + at, mask=at < size, other=0.0).to(tl.float32)
    gate, _ = _gate(x, APPROXIMATE)
    tl.store(out + at, x * gate, mask=at < size)


@jit("num_rows")
def _gelu_float8(
    hidden, out, scale, num_rows,
    APPROXIMATE: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    rows, columns = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    here = (rows < num_rows)[:, None] & (columns < WIDTH)[None, :]
    at = rows[:, None] * WIDTH + columns[None, :]
    x = tl.load(hidden + at, mask=here, other=0.0).to(tl.float32)
    gate, _ = _gate(x, APPROXIMATE)
    store_float8(out + at, scale + rows, (x * gate).to(hidden.dtype.element_ty), here, rows < num_rows)


@jit("num_rows")
def _gelu_backward(
    hidden, gradient, active, active_scale, hidden_gradient, gradient_scale, sums, num_rows, width,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PER_PROGRAM: tl.constexpr,
    APPROXIMATE: tl.constexpr, FLOAT8: tl.constexpr,
):  # fmt: skip
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < width
    total = tl.zeros((COLUMNS,), tl.float32)
    first_row = tl.program_id(0).to(tl.int64) * PER_PROGRAM
    for step in range(PER_PROGRAM // ROWS):
        rows = first_row + step * ROWS + tl.arange(0, ROWS)
        here = (rows < num_rows)[:, None] & inside[None, :]
        at = rows[:, None] * width + columns[None, :]
        x = tl.load(hidden + at, mask=here, other=0.0).to(tl.float32)
        g = tl.load(gradient + at, mask=here, other=0.0).to(tl.float32)
        gate, slope = _gate(x, APPROXIMATE)
        a = x * gate
        g *= gate + x * slope
        if FLOAT8:
            a = a.to(hidden.dtype.element_ty).to(tl.float32)
            a *= inverse(tl.load(active_scale + rows, mask=rows < num_rows, other=1.0))[:, None]
            rounded_g = g.to(gradient.dtype.element_ty)
            store_float8(hidden_gradient + at, gradient_scale + rows, rounded_g, here, rows < num_rows)
        tl.store(active + at, a, mask=here)
        if not FLOAT8:
            tl.store(hidden_gradient + at, g, mask=here)
        total += tl.sum(g, 0)
    tl.store(sums + tl.program_id(0) * width + columns, total, mask=inside)
