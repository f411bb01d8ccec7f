"""Queries, keys and values of all sequences, as views of one packed product.

Attention returns their gradients as three tensors a group. The kernel packs them and sums the gradient of the bias in
the same pass. autograd would use several passes for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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
from cover.models.packing import Group

BLOCK_ROWS, ROWS_PER_PROGRAM = 4, 64


class Qkv(NamedTuple):
    """Queries, keys and values of B sequences of L tokens, each [B, H, L, E]."""

    query: Tensor
    key: Tensor
    value: Tensor


def qkv_linear(normed_FND: Input, weight: Weight, bias: Tensor, num_heads: int, groups: Sequence[Group]) -> list[Qkv]:
    """Compute queries, keys and values.

    Args:
        normed_FND: Tokens [F, N, D], sequence by sequence.
        weight: [3·D, D].
        bias: [3·D].
        num_heads: H.
        groups: The rows of a sequence, and the number of sequences, of each group. A sequence of R rows has
            L = R·N tokens.

    Returns:
        Those of each group.
    """
    if has_kernel(normed_FND.exact):
        arguments = normed_FND.exact, weight.exact, bias, normed_FND, weight, num_heads, tuple(groups)
        parts: Sequence[Tensor] = QkvLinear.apply(*arguments)
        return [Qkv(*parts[at : at + 3]) for at in range(0, len(parts), 3)]
    return split(linear(normed_FND, weight, bias), num_heads, groups)


def split(qkv: Tensor, num_heads: int, groups: Sequence[Group]) -> list[Qkv]:
    """Split packed queries, keys and values.

    Args:
        qkv: [F, N, 3·D].
        num_heads: H.
        groups: The rows of a sequence, and the number of sequences, of each group.

    Returns:
        Views of those of each group.
    """
    parts = qkv.split([rows * sequences for rows, sequences in groups]) if len(groups) > 1 else [qkv]
    shaped = [
        part.unflatten(0, (sequences, -1)).flatten(1, 2).unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
        for part, (_, sequences) in zip(parts, groups, strict=True)
    ]
    return [Qkv(*part.unbind()) for part in shaped]


class QkvLinear(Function):
    """`qkv_linear` with a backward pass that packs the three gradients of each group."""

    @staticmethod
    def forward(
        ctx: Any,
        _normed: Tensor,
        _weight: Tensor,
        bias: Tensor,
        normed: Input,
        weight: Weight,
        num_heads: int,
        groups: tuple[Group, ...],
    ) -> tuple[Tensor, ...]:
        save(ctx, normed.exact, weight.backward)
        parts = split(product(normed.operand, weight.forward, bias), num_heads, groups)
        return tuple(tensor for part in parts for tensor in part)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normed, weight = saved(ctx)
        g, bias_gradient = pack_gradients([Qkv(*gradients[at : at + 3]) for at in range(0, len(gradients), 3)])
        qkv_weight_gradient = weight_gradient(g, normed)
        normed_gradient = data_gradient(matched(g, weight), weight).view_as(normed)
        return normed_gradient, qkv_weight_gradient, bias_gradient, *(None,) * 4


def pack_gradients(groups: Sequence[Qkv]) -> tuple[Tensor, Tensor]:
    """Pack the gradients of queries, keys and values.

    Args:
        groups: The three gradients of each group.

    Returns:
        The packed gradient [M, 3·D] of all M tokens, and its sum over the tokens [3·D].
    """
    _, num_heads, _, head_width = groups[0].query.shape
    width, num_rows = num_heads * head_width, [len(part.query) * part.query.shape[2] for part in groups]
    num_programs = [cdiv(rows, ROWS_PER_PROGRAM) for rows in num_rows]
    packed = groups[0].query.new_empty(sum(num_rows), 3 * width)
    sums = torch.empty(sum(num_programs), 3 * width, dtype=torch.float32, device=packed.device)
    places = zip(groups, packed.split(num_rows), sums.split(num_programs), strict=True)
    for parts, packed_part, sums_part in places:
        if len({part.stride() for part in parts}) > 1 or parts.query.stride(-1) != 1:
            parts = Qkv(*(part.contiguous() for part in parts))
        _pack[(len(sums_part), 3)](
            *parts, packed_part, sums_part, len(packed_part), parts.query.shape[2], *parts.query.stride()[:3],
            HEAD=head_width, WIDTH=width, BLOCK=power_of_two(width), ROWS=BLOCK_ROWS, PER_PROGRAM=ROWS_PER_PROGRAM,
        )  # fmt: skip
    return packed, column_sums(sums, packed.dtype)


@jit("num_rows", "num_tokens")
def _pack(
    query, key, value, packed, sums, num_rows, num_tokens, sequence_stride, head_stride, token_stride,
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
        at = (rows // num_tokens) * sequence_stride + (rows % num_tokens) * token_stride
        g = tl.load(part + at[:, None] + within[None, :], mask=here, other=0.0)
        tl.store(packed + rows[:, None] * (3 * WIDTH) + position * WIDTH + columns[None, :], g, mask=here)
        total += tl.sum(g.to(tl.float32), 0)
    tl.store(sums + tl.program_id(0) * (3 * WIDTH) + position * WIDTH + columns, total, mask=inside)
