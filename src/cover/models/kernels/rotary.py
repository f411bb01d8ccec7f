"""Rotary positions: queries or keys turned by angles of their place, in one pass over them.

The features of a head are pairs (a, b). A table has the cosine and sine of the angle of each, and the result is
(a cos_a - b sin_a, b cos_b + a sin_b). It is computed in float32, in whatever type the queries and keys are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from cover.models.kernels.backend import cdiv, has_kernel, jit, power_of_two, tl

BLOCK_ROWS = 16


class Rotary(NamedTuple):
    """Turns queries, and in another call keys, by their positions.

    Attributes:
        table_L4P: cos_a, sin_a, cos_b and sin_b of each pair of features, at each place of the longest sequence.
    """

    table_L4P: Tensor

    def __call__(self, vectors_BHLE: Tensor) -> Tensor:
        """Turn the queries or keys of sequences, which begin at the first place.

        Args:
            vectors_BHLE: Queries or keys.

        Returns:
            [B, H, L, E], in the same type.
        """
        table_L4P = self.table_L4P[: vectors_BHLE.shape[2]]
        if has_kernel(vectors_BHLE):
            out: Tensor = Rotate.apply(vectors_BHLE, table_L4P)
            return out
        cos_a, sin_a, cos_b, sin_b = table_L4P.unbind(1)
        a, b = vectors_BHLE.unflatten(-1, (-1, 2)).to(table_L4P.dtype).unbind(-1)
        turned = torch.stack([a * cos_a - b * sin_a, b * cos_b + a * sin_b], dim=-1)
        return turned.flatten(-2).to(vectors_BHLE.dtype)


class Rotate(Function):
    """`Rotary` as a kernel. The backward pass turns gradients by the transposed map, so it keeps no vectors."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(table)
        return _turned(vectors, table, transposed=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _turned(gradients[0], *ctx.saved_tensors, transposed=True), None


def _turned(vectors_BHLE: Tensor, table_L4P: Tensor, *, transposed: bool) -> Tensor:
    """Return the result in memory as [B, L, H, E], the order in which products write it and attention reads it."""
    if vectors_BHLE.stride(-1) != 1:
        vectors_BHLE = vectors_BHLE.contiguous()
    num_clips, num_heads, length, head_width = vectors_BHLE.shape
    out = vectors_BHLE.new_empty(num_clips, length, num_heads, head_width).transpose(1, 2)
    pairs = head_width // 2
    _rotate[(cdiv(num_clips * length, BLOCK_ROWS),)](
        vectors_BHLE, table_L4P, out, num_clips * length, length, *vectors_BHLE.stride()[:3], *out.stride()[:3],
        HEADS=num_heads, PAIRS=pairs, BLOCK=power_of_two(pairs), ROWS=BLOCK_ROWS, TRANSPOSED=transposed,
    )  # fmt: skip
    return out


@jit("num_rows")
def _rotate(
    vectors, table, out, num_rows, length,
    clip_stride, head_stride, token_stride, out_clip_stride, out_head_stride, out_token_stride,
    HEADS: tl.constexpr, PAIRS: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, TRANSPOSED: tl.constexpr,
):  # fmt: skip
    rows, pairs = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    clips, places = rows // length, rows % length
    here = (rows < num_rows)[:, None] & (pairs < PAIRS)[None, :]
    angle = table + (places * 4 * PAIRS)[:, None] + pairs[None, :]
    cos_a = tl.load(angle, mask=here, other=0.0)
    sin_a = tl.load(angle + PAIRS, mask=here, other=0.0)
    cos_b = tl.load(angle + 2 * PAIRS, mask=here, other=0.0)
    sin_b = tl.load(angle + 3 * PAIRS, mask=here, other=0.0)
    if TRANSPOSED:
        sin_a, sin_b = -sin_b, -sin_a
    # The numbers of a head are loaded as they lie, and split into pairs in registers.
    numbers = tl.arange(0, 2 * BLOCK)
    inside = (rows < num_rows)[:, None] & (numbers < 2 * PAIRS)[None, :]
    at = (clips * clip_stride + places * token_stride)[:, None] + numbers[None, :]
    out_at = (clips * out_clip_stride + places * out_token_stride)[:, None] + numbers[None, :]
    for head in range(HEADS):
        head_RE = tl.load(vectors + at + head * head_stride, mask=inside, other=0.0).to(tl.float32)
        a, b = tl.split(tl.reshape(head_RE, (ROWS, BLOCK, 2)))
        turned = tl.join(a * cos_a - b * sin_a, b * cos_b + a * sin_b)
        tl.store(out + out_at + head * out_head_stride, tl.reshape(turned, (ROWS, 2 * BLOCK)), mask=inside)
