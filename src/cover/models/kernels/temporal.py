"""The temporal branch of a block: attention over the frames of a clip, for each patch position separately.

The kernel reads packed queries, keys and values in place. A sequence is as short as a clip, so one tile of 64 rows
(fewer for wide heads) has several sequences of one head. Attention between different sequences is masked:

    tile of 8 sequences of 8 frames        rows, columns: sequence 0, frames 0-7 | sequence 1, frames 0-7 | …
    ┌──┐
    │▒▒│ sequence 0
    └──┼──┐
       │▒▒│ sequence 1
       └──┴─ …

The masked arithmetic costs no time, because moving the data takes longer.
"""

from __future__ import annotations

import logging
import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
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
from cover.models.packing import Group, unpack

logger = logging.getLogger(__name__)

TILE_ROWS, LEAST_TILE_ROWS = 64, 16
TILE_BYTES, MOST_TILE_BYTES = 2**13, 2**14
"""The queries of a tile. With the first, registers suffice. With the second, the backward pass takes up to 80 KB of
shared memory, and the smallest GPUs have 99 KB (tests/models/kernels/test_targets.py)."""
MOST_FRAMES = TILE_ROWS
"""The longest clip that the kernel accepts."""


def temporal_branch(
    normed_FND: Input,
    qkv_weight: Weight,
    qkv_bias: Tensor,
    out_weight: Weight,
    num_heads: int,
    groups: tuple[Group, ...],
) -> Tensor:
    """Compute attention(x Wᵀ + b) Oᵀ for the patches. The bias of the output projection is added with the residual.

    Args:
        normed_FND: x, [F, 1+N, D].
        qkv_weight: W, [3·D, D].
        qkv_bias: b, [3·D].
        out_weight: O, [D, D].
        num_heads: H.
        groups: The layout of the frames.

    Returns:
        [F, 1+N, D]. The class token's values mean nothing.
    """
    arguments = normed_FND, qkv_weight, qkv_bias, out_weight, num_heads, groups
    if not has_kernel(normed_FND.exact):
        return plain_temporal_branch(*arguments)
    if not all(_tile_rows(group, normed_FND.exact, num_heads) for group in groups):
        # The class token is cut off, because the kernel in residual.py leaves its gradient undefined.
        return F.pad(plain_temporal_branch(*arguments)[:, 1:], (0, 0, 1, 0))
    exact = normed_FND.exact, qkv_weight.exact, qkv_bias, out_weight.exact
    out: Tensor = TemporalBranch.apply(*exact, normed_FND, qkv_weight, out_weight, num_heads, groups)
    return out


@cache
def tile_rows(num_frames: int, head_width: int, element_bytes: int) -> int:
    """Choose the rows of a tile.

    Args:
        num_frames: T, the length of a sequence.
        head_width: E.
        element_bytes: The size of a number.

    Returns:
        A power of two from T to 64; 0, with one line in the log, if the kernel does not fit.
    """
    row_bytes = _head_block(head_width) * element_bytes
    rows = max(LEAST_TILE_ROWS, power_of_two(num_frames), min(TILE_ROWS, TILE_BYTES // row_bytes))
    if num_frames <= MOST_FRAMES and rows * row_bytes <= MOST_TILE_BYTES:
        return rows
    logger.warning(
        "temporal attention over %d frames with heads of %d numbers of %d bits runs in torch's own operations: "
        "its kernel takes at most %d frames, and %d KB a head",
        num_frames, head_width, 8 * element_bytes, MOST_FRAMES, MOST_TILE_BYTES // 1024,
    )  # fmt: skip
    return 0


def plain_temporal_branch(
    normed_FND: Input,
    qkv_weight: Weight,
    qkv_bias: Tensor,
    out_weight: Weight,
    num_heads: int,
    groups: tuple[Group, ...],
) -> Tensor:
    """`temporal_branch` in torch's own operations."""
    qkv = linear(normed_FND, qkv_weight, qkv_bias).unflatten(-1, (3, num_heads, -1))
    mixed_FND = torch.cat([attend_over_frames(group).flatten(0, 1) for group in unpack(qkv, groups)]).flatten(2)
    return linear(Input.of(mixed_FND, out_weight.forward), out_weight)


def attend_over_frames(qkv: Tensor) -> Tensor:
    """Compute softmax attention over T.

    For clips of one frame the softmax over a single key is 1, so the result is the value itself (paper, appendix A).

    Args:
        qkv: Queries, keys and values of one group, [T, B, 1+N, 3, H, E].

    Returns:
        [T, B, 1+N, H, E].
    """
    num_frames, num_clips = qkv.shape[:2]
    if num_frames == 1:
        return qkv[:, :, :, 2]
    # Batched over clips and patches as strided views, which are not copied (docs/log.md).
    query, key, value = qkv.flatten(1, 2).permute(2, 1, 3, 0, 4)
    mixed: Tensor = F.scaled_dot_product_attention(query, key, value).permute(2, 0, 1, 3)
    out: Tensor = mixed.unflatten(1, (num_clips, -1))
    return out


class TemporalBranch(Function):
    """`temporal_branch` with one pass over packed queries, keys and values, and one over their gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        _normed: Tensor,
        _qkv_weight: Tensor,
        qkv_bias: Tensor,
        _out_weight: Tensor,
        normed: Input,
        qkv_weight: Weight,
        out_weight: Weight,
        num_heads: int,
        groups: tuple[Group, ...],
    ) -> Tensor:
        qkv = product(normed.operand, qkv_weight.forward, qkv_bias)
        mixed = torch.empty_like(normed.exact)
        for first, group in first_rows(groups, mixed.shape[1]):
            _attend[_grid(group, mixed, num_heads)](
                qkv, mixed, first, *_sizes(group, mixed), **_shape(group, mixed, num_heads)
            )
        save(ctx, normed.exact, qkv_weight.backward, out_weight.backward, qkv, mixed)
        ctx.num_heads, ctx.groups = num_heads, groups
        return product(matched(mixed, out_weight.forward), out_weight.forward)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normed, qkv_weight, out_weight, qkv, mixed = saved(ctx)
        gradient, num_tokens = gradients[0], qkv.shape[1]
        g = gradient.flatten(0, 1)
        out_weight_gradient = weight_gradient(g, mixed)
        mixed_gradient = data_gradient(matched(g, out_weight), out_weight)
        qkv_gradient, sums = torch.empty_like(qkv), []
        for first, group in first_rows(ctx.groups, num_tokens):
            grid = _grid(group, gradient, ctx.num_heads)
            part = torch.empty(grid[0] // ctx.num_heads, qkv.shape[-1], dtype=torch.float32, device=qkv.device)
            _attend_backward[grid](
                qkv, mixed_gradient, qkv_gradient, part, first, *_sizes(group, gradient),
                **_shape(group, gradient, ctx.num_heads),
            )  # fmt: skip
            sums.append(part)
        bias_gradient = column_sums(torch.cat(sums), qkv.dtype)
        g = qkv_gradient.flatten(0, 1)
        qkv_weight_gradient = weight_gradient(g, normed)
        normed_gradient = data_gradient(matched(g, qkv_weight), qkv_weight).view_as(gradient)
        return normed_gradient, qkv_weight_gradient, bias_gradient, out_weight_gradient, *(None,) * 5


def first_rows(groups: tuple[Group, ...], num_tokens: int) -> list[tuple[int, Group]]:
    """Return each group with the number of its first row among F·(1+N) rows.

    Args:
        groups: The layout of the frames.
        num_tokens: 1+N, the tokens of a frame.
    """
    firsts, first = [], 0
    for group in groups:
        firsts.append((first, group))
        first += group.num_frames * group.num_clips * num_tokens
    return firsts


def _head_block(head_width: int) -> int:
    return max(16, power_of_two(head_width))


def _tile_rows(group: Group, normed: Tensor, num_heads: int) -> int:
    return tile_rows(group.num_frames, normed.shape[2] // num_heads, normed.element_size())


def _grid(group: Group, normed: Tensor, num_heads: int) -> tuple[int]:
    sequences_per_tile = _tile_rows(group, normed, num_heads) // power_of_two(group.num_frames)
    return (cdiv(group.num_clips * normed.shape[1], sequences_per_tile) * num_heads,)


def _sizes(group: Group, normed: Tensor) -> tuple[int, int]:
    return group.num_clips * normed.shape[1], normed.shape[1]


def _shape(group: Group, normed: Tensor, num_heads: int) -> dict[str, Any]:
    head_width = normed.shape[2] // num_heads
    return {
        "FRAMES": group.num_frames, "PADDED": power_of_two(group.num_frames),
        "TILE": _tile_rows(group, normed, num_heads), "HEADS": num_heads,
        "HEAD": head_width, "BLOCK": _head_block(head_width), "SCALE": 1 / math.sqrt(head_width),
        "PRECISION": "ieee" if normed.dtype == torch.float32 else "tf32",
    }  # fmt: skip


@jit("first", "num_sequences")
def _rows(first, num_sequences, num_tokens, FRAMES: tl.constexpr, PADDED: tl.constexpr, TILE: tl.constexpr,
          HEADS: tl.constexpr):  # fmt: skip
    """For each row of this program's tile: its number among F·(1+N), whether it exists, and whether it is a patch."""
    index = tl.arange(0, TILE)
    sequence = tl.program_id(0) // HEADS * (TILE // PADDED) + index // PADDED
    frame = index % PADDED
    exists = (sequence < num_sequences) & (frame < FRAMES)
    row = first + frame.to(tl.int64) * num_sequences + sequence
    return row, exists, exists & (sequence % num_tokens > 0)


@jit()
def _probabilities(q, k, FRAMES: tl.constexpr, PADDED: tl.constexpr, TILE: tl.constexpr, SCALE: tl.constexpr,
                   PRECISION: tl.constexpr):  # fmt: skip
    index = tl.arange(0, TILE)
    together = (index[:, None] // PADDED == index[None, :] // PADDED) & (index % PADDED < FRAMES)[None, :]
    scores = tl.where(together, tl.dot(q, tl.trans(k), input_precision=PRECISION) * SCALE, -float("inf"))
    weights = tl.exp(scores - tl.max(scores, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]


@jit("first", "num_sequences")
def _attend(
    qkv, mixed, first, num_sequences, num_tokens,
    FRAMES: tl.constexpr, PADDED: tl.constexpr, TILE: tl.constexpr, HEADS: tl.constexpr, HEAD: tl.constexpr,
    BLOCK: tl.constexpr, SCALE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    WIDTH: tl.constexpr = HEADS * HEAD
    row, exists, is_patch = _rows(first, num_sequences, num_tokens, FRAMES, PADDED, TILE, HEADS)
    channel = tl.arange(0, BLOCK)
    column = tl.program_id(0) % HEADS * HEAD + channel
    inside = (channel < HEAD)[None, :]
    at, here = qkv + row[:, None] * (3 * WIDTH) + column[None, :], is_patch[:, None] & inside
    q = tl.load(at, mask=here, other=0.0)
    k = tl.load(at + WIDTH, mask=here, other=0.0)
    v = tl.load(at + 2 * WIDTH, mask=here, other=0.0)
    p = _probabilities(q, k, FRAMES, PADDED, TILE, SCALE, PRECISION).to(v.dtype)
    out = tl.dot(p, v, input_precision=PRECISION)
    tl.store(mixed + row[:, None] * WIDTH + column[None, :], out, mask=exists[:, None] & inside)


@jit("first", "num_sequences")
def _attend_backward(
    qkv, mixed_gradient, qkv_gradient, sums, first, num_sequences, num_tokens,
    FRAMES: tl.constexpr, PADDED: tl.constexpr, TILE: tl.constexpr, HEADS: tl.constexpr, HEAD: tl.constexpr,
    BLOCK: tl.constexpr, SCALE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    WIDTH: tl.constexpr = HEADS * HEAD
    row, exists, is_patch = _rows(first, num_sequences, num_tokens, FRAMES, PADDED, TILE, HEADS)
    channel = tl.arange(0, BLOCK)
    column = tl.program_id(0) % HEADS * HEAD + channel
    inside = (channel < HEAD)[None, :]
    offset, here = row[:, None] * (3 * WIDTH) + column[None, :], is_patch[:, None] & inside
    q = tl.load(qkv + offset, mask=here, other=0.0)
    k = tl.load(qkv + offset + WIDTH, mask=here, other=0.0)
    v = tl.load(qkv + offset + 2 * WIDTH, mask=here, other=0.0)
    g = tl.load(mixed_gradient + row[:, None] * WIDTH + column[None, :], mask=here, other=0.0)
    p = _probabilities(q, k, FRAMES, PADDED, TILE, SCALE, PRECISION)
    dp = tl.dot(g, tl.trans(v), input_precision=PRECISION)
    ds = (p * (dp - tl.sum(p * dp, 1)[:, None]) * SCALE).to(q.dtype)
    dq = tl.dot(ds, k, input_precision=PRECISION)
    dk = tl.dot(tl.trans(ds), q, input_precision=PRECISION)
    dv = tl.dot(tl.trans(p.to(g.dtype)), g, input_precision=PRECISION)
    written = exists[:, None] & inside
    tl.store(qkv_gradient + offset, dq, mask=written)
    tl.store(qkv_gradient + offset + WIDTH, dk, mask=written)
    tl.store(qkv_gradient + offset + 2 * WIDTH, dv, mask=written)
    total = sums + tl.program_id(0) // HEADS * (3 * WIDTH) + column
    tl.store(total, tl.sum(dq, 0), mask=channel < HEAD)
    tl.store(total + WIDTH, tl.sum(dk, 0), mask=channel < HEAD)
    tl.store(total + 2 * WIDTH, tl.sum(dv, 0), mask=channel < HEAD)
