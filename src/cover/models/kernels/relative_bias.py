"""The bias of each pair of tokens in a window, from a table of the bias of each distance.

A pair's row in the table is its distance in time, rows and columns, and nothing else. The kernel writes the biases in
the type of matrix products, to a multiple of PADDING tokens: keys that do not exist have -inf, so that attention needs
no other mask for them.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from cover.models.kernels.backend import cdiv, jit, power_of_two, tl

Size = tuple[int, int, int]
"""(time slots, rows, columns)."""
PADDING = 64
EXPANDED_ROWS, SUMMED_ROWS = 4, 4
"""Queries, and rows of the table, of one program."""


def plain_expand(table: Tensor, size: Size, window: Size) -> Tensor:
    """Return the bias of each pair of tokens in a window, [H, L, L]: query, key.

    Along each axis the biases are windows that slide over the table, and the backward pass sums them in a fixed order.

    The published code takes the first L rows and columns of the index of whole windows. That is right only if nothing
    but time is cut short, so below 224 px it reads biases of other positions; this function does not.

    Args:
        table: [(2 · slots - 1) · (2 · rows - 1) · (2 · columns - 1), H].
        size: The tokens of the window.
        window: The tokens of a whole window, for which the table is.
    """
    biases = table.unflatten(0, [2 * whole - 1 for whole in window])
    for axis, (length, whole) in enumerate(zip(size, window, strict=True)):
        biases = biases.narrow(axis, whole - length, 2 * length - 1).unfold(axis, length, 1)
    out: Tensor = biases.flip(4, 5, 6).permute(3, 0, 1, 2, 4, 5, 6).flatten(4).flatten(1, 3)
    return out


def padded_length(size: Size) -> int:
    """Return the number of tokens in a window, rounded up to a multiple of PADDING."""
    return PADDING * cdiv(prod(size), PADDING)


def expand(table: Tensor, size: Size, window: Size, dtype: torch.dtype) -> Tensor:
    """Compute `plain_expand` by a kernel.

    Args:
        table: See `plain_expand`.
        size: See `plain_expand`.
        window: See `plain_expand`.
        dtype: The type of the result.

    Returns:
        [H, padded L, padded L].
    """
    num_heads, padded = table.shape[1], padded_length(size)
    out = torch.empty(num_heads, padded, padded, dtype=dtype, device=table.device)
    _expand[(cdiv(padded, EXPANDED_ROWS), num_heads)](
        table.contiguous(), out, heads=num_heads, PADDED=padded, BLOCK=power_of_two(padded), ROWS=EXPANDED_ROWS,
        **_sides(size, window),
    )  # fmt: skip
    return out


def table_gradient(gradients: Tensor, size: Size, window: Size, dtype: torch.dtype) -> Tensor:
    """Compute the gradient of the table.

    Args:
        gradients: The gradient of the biases, in parts to add, float32 [parts, H, padded L, padded L].
        size: See `plain_expand`.
        window: See `plain_expand`.
        dtype: The type of the result.

    Returns:
        As large as the table.
    """
    num_parts, num_heads, padded, _ = gradients.shape
    num_rows = prod(2 * length - 1 for length in window)
    out = torch.empty(num_rows, num_heads, dtype=dtype, device=gradients.device)
    _sum[(cdiv(num_rows, SUMMED_ROWS), num_heads)](
        gradients, out, num_rows, num_parts, heads=num_heads, PADDED=padded, BLOCK=power_of_two(padded),
        ROWS=SUMMED_ROWS, **_sides(size, window),
    )  # fmt: skip
    return out


def _sides(size: Size, window: Size) -> dict[str, Any]:
    rows, columns = (2 * length - 1 for length in window[1:])
    return {
        "SLOTS": size[0], "HEIGHT": size[1], "ACROSS": size[2], "TABLE_SLOTS": window[0], "TABLE_HEIGHT": rows,
        "TABLE_WIDTH": columns,
    }  # fmt: skip


@jit("heads")
def _expand(
    table, out, heads, PADDED: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    SLOTS: tl.constexpr, HEIGHT: tl.constexpr, ACROSS: tl.constexpr, TABLE_SLOTS: tl.constexpr,
    TABLE_HEIGHT: tl.constexpr, TABLE_WIDTH: tl.constexpr,
):  # fmt: skip
    LENGTH: tl.constexpr = SLOTS * HEIGHT * ACROSS
    query, key, head = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK), tl.program_id(1)
    t = (query // (HEIGHT * ACROSS))[:, None] - (key // (HEIGHT * ACROSS))[None, :] + (TABLE_SLOTS - 1)
    y = (query // ACROSS % HEIGHT)[:, None] - (key // ACROSS % HEIGHT)[None, :] + TABLE_HEIGHT // 2
    x = (query % ACROSS)[:, None] - (key % ACROSS)[None, :] + TABLE_WIDTH // 2
    here = (query < LENGTH)[:, None] & (key < LENGTH)[None, :]
    bias = tl.load(table + ((t * TABLE_HEIGHT + y) * TABLE_WIDTH + x) * heads + head, mask=here, other=0.0)
    bias = tl.where((key < LENGTH)[None, :], bias, -float("inf"))
    at = out + head.to(tl.int64) * (PADDED * PADDED) + query[:, None] * PADDED + key[None, :]
    tl.store(at, bias, mask=(query < PADDED)[:, None] & (key < PADDED)[None, :])


@jit("num_rows", "num_parts", "heads")
def _sum(
    gradients, out, num_rows, num_parts, heads, PADDED: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr, SLOTS: tl.constexpr, HEIGHT: tl.constexpr, ACROSS: tl.constexpr, TABLE_SLOTS: tl.constexpr,
    TABLE_HEIGHT: tl.constexpr, TABLE_WIDTH: tl.constexpr,
):  # fmt: skip
    LENGTH: tl.constexpr = SLOTS * HEIGHT * ACROSS
    row, query, head = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK), tl.program_id(1)
    # The key at the distance of the row from each query.
    t = (query // (HEIGHT * ACROSS))[None, :] - (row // (TABLE_HEIGHT * TABLE_WIDTH))[:, None] + (TABLE_SLOTS - 1)
    y = (query // ACROSS % HEIGHT)[None, :] - (row // TABLE_WIDTH % TABLE_HEIGHT)[:, None] + TABLE_HEIGHT // 2
    x = (query % ACROSS)[None, :] - (row % TABLE_WIDTH)[:, None] + TABLE_WIDTH // 2
    here = (row < num_rows)[:, None] & (query < LENGTH)[None, :]
    here &= (t >= 0) & (t < SLOTS) & (y >= 0) & (y < HEIGHT) & (x >= 0) & (x < ACROSS)
    at = head.to(tl.int64) * (PADDED * PADDED) + query[None, :] * PADDED + (t * HEIGHT + y) * ACROSS + x
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    part = 0
    while part < num_parts:
        total += tl.load(gradients + part * (heads * PADDED * PADDED) + at, mask=here, other=0.0)
        part += 1
    tl.store(out + row * heads + head, tl.sum(total, 1), mask=row < num_rows)
