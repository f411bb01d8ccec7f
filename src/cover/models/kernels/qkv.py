"""Queries, keys and values of each frame's tokens, as views of one packed product.

Attention returns their gradients as three tensors. The kernel packs them and sums the gradient of the bias in the same
pass. autograd would use one pass for each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from cover.models.kernels.backend import cdiv, column_sums, has_kernel, jit, power_of_two, tl
from cover.models.kernels.float8 import Float8, empty, inverse, row_scales
from cover.models.kernels.products import (
    Gradient,
    Input,
    Weight,
    data_gradient,
    keeps_exact,
    linear,
    product,
    save,
    saved,
    weight_gradient,
)

BLOCK_ROWS, FLOAT8_ROWS, ROWS_PER_PROGRAM = 4, 2, 64


def qkv_linear(normed_FND: Input, weight: Weight, bias: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Compute queries, keys and values.

    Args:
        normed_FND: Tokens [F, 1+N, D].
        weight: [3·D, D].
        bias: [3·D].
        num_heads: H.

    Returns:
        Query, key and value, each [F, H, 1+N, E].
    """
    if has_kernel(normed_FND.exact):
        arguments = normed_FND.exact, weight.exact, bias, normed_FND, weight, num_heads
        out: tuple[Tensor, Tensor, Tensor] = QkvLinear.apply(*arguments)
        return out
    return split(linear(normed_FND, weight, bias), num_heads)


def split(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split packed queries, keys and values.

    Args:
        qkv: [F, 1+N, 3·D].
        num_heads: H.

    Returns:
        Views of query, key and value, each [F, H, 1+N, E].
    """
    query, key, value = qkv.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    return query, key, value


class QkvLinear(Function):
    """`qkv_linear` with a backward pass that packs the three gradients."""

    @staticmethod
    def forward(
        ctx: Any, _normed: Tensor, _weight: Tensor, bias: Tensor, normed: Input, weight: Weight, num_heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        save(ctx, normed.kept, weight.backward)
        return split(product(normed.operand, weight.forward, bias), num_heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normed, weight = saved(ctx)
        g, bias_gradient = pack_gradients(*gradients, float8=isinstance(weight, Float8))
        qkv_weight_gradient = weight_gradient(g, normed)
        num_frames, _, num_tokens, _ = gradients[0].shape
        normed_gradient = data_gradient(g, weight).view(num_frames, num_tokens, -1)
        return normed_gradient, qkv_weight_gradient, bias_gradient, None, None, None


def pack_gradients(*parts_FHNE: Tensor, float8: bool = False) -> tuple[Gradient, Tensor]:
    """Pack the gradients of query, key and value.

    Args:
        *parts_FHNE: The three gradients, each [F, H, 1+N, E].
        float8: Whether to round the packed gradient to float8.

    Returns:
        The packed gradient [F·(1+N), 3·D], and its sum over the rows [3·D].
    """
    if len({part.stride() for part in parts_FHNE}) > 1 or parts_FHNE[0].stride(-1) != 1:
        parts_FHNE = tuple(part.contiguous() for part in parts_FHNE)
    query, key, value = parts_FHNE
    num_frames, num_heads, num_tokens, head_width = query.shape
    num_rows, width = num_frames * num_tokens, num_heads * head_width
    packed = query.new_empty(num_rows, 3 * width)
    num_programs = cdiv(num_rows, ROWS_PER_PROGRAM)
    sums = torch.empty(num_programs, 3 * width, dtype=torch.float32, device=query.device)
    sizes = num_rows, num_tokens, query.stride(0), query.stride(1), query.stride(2)
    blocks = {"HEAD": head_width, "WIDTH": width, "BLOCK": power_of_two(width), "PER_PROGRAM": ROWS_PER_PROGRAM}
    rounded = empty(packed.shape, packed.device) if float8 else None
    if rounded is None:
        _pack[(num_programs, 3)](query, key, value, packed, sums, *sizes, ROWS=BLOCK_ROWS, **blocks)
    else:
        _pack_float8[(num_programs,)](
            query, key, value, packed, *rounded, sums, *sizes, ROWS=FLOAT8_ROWS, EXACT=keeps_exact(float8), **blocks,
            num_warps=8,
        )  # fmt: skip
    return Gradient.both(packed, rounded), column_sums(sums, packed.dtype)


@jit("num_rows")
def _pack(
    query, key, value, packed, sums, num_rows, num_tokens, frame_stride, head_stride, token_stride,
    HEAD: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, PER_PROGRAM: tl.constexpr,
):  # fmt: skip
    position = tl.program_id(1)
    part = query
    if position == 1:
        part = key
    if position == 2:
        part = value
    columns = tl.arange(0, BLOCK)
    inside = columns < WIDTH
    within = (columns // HEAD).to(tl.int64) * head_stride + columns % HEAD
    total = tl.zeros((BLOCK,), tl.float32)
    for step in range(PER_PROGRAM // ROWS):
        rows = tl.program_id(0).to(tl.int64) * PER_PROGRAM + step * ROWS + tl.arange(0, ROWS)
        here = (rows < num_rows)[:, None] & inside[None, :]
        at = (rows // num_tokens) * frame_stride + (rows % num_tokens) * token_stride
        g = tl.load(part + at[:, None] + within[None, :], mask=here, other=0.0)
        tl.store(packed + rows[:, None] * (3 * WIDTH) + position * WIDTH + columns[None, :], g, mask=here)
        total += tl.sum(g.to(tl.float32), 0)
    tl.store(sums + tl.program_id(0) * (3 * WIDTH) + position * WIDTH + columns, total, mask=inside)


@jit("num_rows")
def _pack_float8(
    query, key, value, packed, rounded, scale, sums, num_rows, num_tokens, frame_stride, head_stride, token_stride,
    HEAD: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, PER_PROGRAM: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """`_pack` with all three parts in one program, because they have one scale."""
    columns = tl.arange(0, BLOCK)
    inside = columns < WIDTH
    within = (columns // HEAD).to(tl.int64) * head_stride + columns % HEAD
    query_sum = tl.zeros((BLOCK,), tl.float32)
    key_sum = tl.zeros((BLOCK,), tl.float32)
    value_sum = tl.zeros((BLOCK,), tl.float32)
    for step in range(PER_PROGRAM // ROWS):
        rows = tl.program_id(0).to(tl.int64) * PER_PROGRAM + step * ROWS + tl.arange(0, ROWS)
        here = (rows < num_rows)[:, None] & inside[None, :]
        at = ((rows // num_tokens) * frame_stride + (rows % num_tokens) * token_stride)[:, None] + within[None, :]
        q = tl.load(query + at, mask=here, other=0.0).to(tl.float32)
        k = tl.load(key + at, mask=here, other=0.0).to(tl.float32)
        v = tl.load(value + at, mask=here, other=0.0).to(tl.float32)
        s = row_scales(tl.maximum(tl.maximum(tl.abs(q), tl.abs(k)), tl.abs(v)))
        tl.store(scale + rows, s, mask=rows < num_rows)
        out = rows[:, None] * (3 * WIDTH) + columns[None, :]
        factor = inverse(s)[:, None]
        tl.store(rounded + out, (q * factor).to(rounded.dtype.element_ty), mask=here)
        tl.store(rounded + out + WIDTH, (k * factor).to(rounded.dtype.element_ty), mask=here)
        tl.store(rounded + out + 2 * WIDTH, (v * factor).to(rounded.dtype.element_ty), mask=here)
        if EXACT:
            tl.store(packed + out, q, mask=here)
            tl.store(packed + out + WIDTH, k, mask=here)
            tl.store(packed + out + 2 * WIDTH, v, mask=here)
        query_sum += tl.sum(q, 0)
        key_sum += tl.sum(k, 0)
        value_sum += tl.sum(v, 0)
    total = sums + tl.program_id(0) * (3 * WIDTH) + columns
    tl.store(total, query_sum, mask=inside)
    tl.store(total + WIDTH, key_sum, mask=inside)
    tl.store(total + 2 * WIDTH, value_sum, mask=inside)
