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
from cover.models.kernels.products import (
    Input,
    Weight,
    data_gradient,
    linear,
    matched,
    product,
    save,
    saved,
    weight_gradient,
)

BLOCK_ROWS, ROWS_PER_PROGRAM = 4, 64


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
        save(ctx, normed.exact, weight.backward)
        return split(product(normed.operand, weight.forward, bias), num_heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normed, weight = saved(ctx)
        g, bias_gradient = pack_gradients(*gradients)
        qkv_weight_gradient = weight_gradient(g, normed)
        normed_gradient = data_gradient(matched(g, weight), weight).view_as(normed)
        return normed_gradient, qkv_weight_gradient, bias_gradient, None, None, None


def pack_gradients(*parts_FHNE: Tensor) -> tuple[Tensor, Tensor]:
    """Pack the gradients of query, key and value.

    Args:
        *parts_FHNE: The three gradients, each [F, H, 1+N, E].

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
    _pack[(num_programs, 3)](
        query, key, value, packed, sums, num_rows, num_tokens, query.stride(0), query.stride(1), query.stride(2),
        HEAD=head_width, WIDTH=width, BLOCK=power_of_two(width), ROWS=BLOCK_ROWS, PER_PROGRAM=ROWS_PER_PROGRAM,
    )  # fmt: skip
    return packed, column_sums(sums, packed.dtype)


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
