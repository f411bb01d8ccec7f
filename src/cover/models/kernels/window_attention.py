"""Attention in windows as GPU kernels.

A table of the token at each place of the windows says where queries, keys and values are, so the kernels read and write
them in the order of the clips:

    qkv [N, 3·D] ── places [windows, L] ──▶ one program for each window, head and block of queries ──▶ mixed [N, D]

The backward pass has three kernels, which compute the probabilities again: for blocks of queries, for blocks of keys
and values, and for tiles of the bias, which loop over windows. Each program adds up its own results alone. So sums have
a fixed order, and a step gives the same bits each time.
"""

from __future__ import annotations

import logging
import math
from functools import cache
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cover.models.kernels.backend import cdiv, jit, power_of_two, tl
from cover.models.kernels.relative_bias import Size

logger = logging.getLogger(__name__)

MASKED = -100.0
"""Added to the score of two tokens that must not attend to each other, as in the published code."""
MOST_HEAD_BYTES, MOST_TOKENS = 256, 2048
"""The widest heads (128 numbers of 16 bits) and the largest windows that the kernels take."""
TILE_BYTES = 2**12
"""The queries or keys of a tile take at most as much, so that tiles of wide heads fit into the registers, too."""
BIAS_PROGRAMS = 1536
"""About as many programs compute the gradient of the bias, if there are enough windows: a few rounds of a large GPU."""


class Tile(NamedTuple):
    """How a kernel is cut into programs.

    Attributes:
        queries: The most queries of a tile; a power of two up to PADDING.
        keys: The most keys.
        num_warps: The warps of a program.
        num_stages: How many tiles are loaded ahead.
    """

    queries: int
    keys: int
    num_warps: int
    num_stages: int


FORWARD, QUERY, KEY, BIAS = Tile(64, 32, 4, 3), Tile(64, 32, 4, 3), Tile(32, 64, 4, 2), Tile(64, 64, 4, 3)
"""Attention, and the gradients of queries, of keys and values, and of the bias."""


class SameSize(NamedTuple):
    """All windows of one size, as the kernels read them: with places up to a multiple of PADDING.

    Attributes:
        size: The slots, rows and columns of tokens in a window.
        places_WP: int32, the token at each place. Places that do not exist have any.
        regions_WP: int32, a number for each place. Tokens of a window attend to each other if theirs are equal. None if
            all do.
        num_tokens: N. Larger numbers are of empty places.
        has_empty: Whether there are any.
    """

    size: Size
    places_WP: Tensor
    regions_WP: Tensor | None
    num_tokens: int
    has_empty: bool


@cache
def fits(head_width: int, dtype: torch.dtype, length: int) -> bool:
    """Return whether the kernels take windows; if not, log one line.

    Args:
        head_width: E.
        dtype: The type of queries, keys and values.
        length: The tokens of the largest window.
    """
    if dtype.itemsize <= 4 and head_width * dtype.itemsize <= MOST_HEAD_BYTES and length <= MOST_TOKENS:
        return True
    logger.warning(
        "attention in windows of %d tokens with heads of %d numbers of %d bits runs in torch's own operations: its "
        "kernels take at most %d tokens, and %d bytes a head",
        length, head_width, 8 * dtype.itemsize, MOST_TOKENS, MOST_HEAD_BYTES,
    )  # fmt: skip
    return False


class Operands(NamedTuple):
    """What the backward pass of attention reads.

    Attributes:
        qkv: [F, N, 3·D].
        empty_bias: [3·D].
        bias: From `expand`.
        mixed_gradient: The gradient of the result, [F·N, D].
        lse: From `attend`.
    """

    qkv: Tensor
    empty_bias: Tensor
    bias: Tensor
    mixed_gradient: Tensor
    lse: Tensor


def attend(qkv: Tensor, empty_bias: Tensor, bias: Tensor, mixed: Tensor, windows: SameSize) -> Tensor:
    """Compute attention in windows of one size.

    Args:
        qkv: [F, N, 3·D].
        empty_bias: [3·D].
        bias: From `expand`.
        mixed: [F, N, D], to write the result to.
        windows: The windows.

    Returns:
        The base-2 logarithm of the denominator of each softmax, float32 [windows, H, padded L].
    """
    shape = _shape(qkv, bias, windows, FORWARD)
    num_heads, padded = bias.shape[:2]
    shape_of_lse = len(windows.places_WP), num_heads, padded
    # Queries that do not exist have no probabilities in the backward pass.
    lse = torch.full(shape_of_lse, torch.inf, dtype=torch.float32, device=qkv.device)
    _attend[(len(windows.places_WP) * num_heads * cdiv(shape["LENGTH"], shape["QUERIES"]),)](
        qkv, empty_bias, bias, windows.places_WP, windows.regions_WP, mixed, lse, windows.num_tokens, **shape,
    )  # fmt: skip
    return lse


def attend_backward(
    operands: Operands, mixed: Tensor, qkv_gradient: Tensor, windows: SameSize
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of queries, keys and values.

    Args:
        operands: What to read.
        mixed: The result of attention, [F, N, D].
        qkv_gradient: [F, N, 3·D], to write the gradients to.
        windows: The windows.

    Returns:
        Parts of their sums over the tokens, [parts, 3·D], or over these and the empty places, [parts, 6·D]; and for
        each query the product of result and gradient, [windows, H, padded L]. Both are float32.
    """
    lse, num_windows = operands.lse, len(windows.places_WP)
    query_shape, key_shape = (_shape(operands.qkv, operands.bias, windows, tile) for tile in (QUERY, KEY))
    length, num_heads = query_shape["LENGTH"], query_shape["heads"]
    num_blocks = cdiv(length, query_shape["QUERIES"])
    assert num_blocks == cdiv(length, key_shape["KEYS"])  # which share the rows of the sums
    width = (6 if windows.has_empty else 3) * mixed.shape[-1]
    sums = torch.empty(num_windows * num_blocks, width, dtype=torch.float32, device=lse.device)
    delta = torch.empty_like(lse)
    tables, grid = (windows.places_WP, windows.regions_WP), (num_windows * num_heads * num_blocks,)
    written = qkv_gradient, sums, windows.num_tokens
    _query_gradients[grid](*operands, mixed, delta, *tables, *written, **query_shape)
    _key_gradients[grid](*operands, delta, *tables, *written, **key_shape)
    return sums, delta


def tile_gradients(operands: Operands, delta: Tensor, windows: SameSize) -> Tensor:
    """Compute the gradient of the bias, in parts to add: float32 [parts, H, padded L, padded L].

    Args:
        operands: What to read.
        delta: From `attend_backward`.
        windows: The windows.
    """
    shape, num_windows = _shape(operands.qkv, operands.bias, windows, BIAS), len(windows.places_WP)
    tiles = len(operands.bias) * cdiv(shape["LENGTH"], shape["QUERIES"]) * cdiv(shape["LENGTH"], shape["KEYS"])
    per_part = power_of_two(cdiv(num_windows, cdiv(BIAS_PROGRAMS, tiles)))
    num_parts = cdiv(num_windows, per_part)
    out = operands.lse.new_empty(num_parts, *operands.bias.shape)
    _tile_gradients[(tiles * num_parts,)](
        *operands, delta, windows.places_WP, windows.regions_WP, out, windows.num_tokens, num_windows, **shape,
        PER_PART=per_part,
    )  # fmt: skip
    return out


def _shape(qkv: Tensor, bias: Tensor, windows: SameSize, tile: Tile) -> dict[str, Any]:
    num_heads, length = len(bias), prod(windows.size)
    head_width = qkv.shape[-1] // 3 // num_heads
    block = max(16, power_of_two(head_width))
    most = max(16, min(TILE_BYTES // (block * qkv.element_size()), power_of_two(length)))
    return {
        "LENGTH": length, "PADDED": bias.shape[-1], "heads": num_heads, "HEAD": head_width, "BLOCK": block,
        "SCALE": 1 / math.sqrt(head_width), "QUERIES": min(tile.queries, most), "KEYS": min(tile.keys, most),
        "CUT": windows.regions_WP is not None, "EMPTY": windows.has_empty, "WIDE": qkv.numel() >= 2**31,
        "PRECISION": "ieee" if qkv.dtype == torch.float32 else "tf32", "num_warps": tile.num_warps,
        "num_stages": tile.num_stages,
    }  # fmt: skip


@jit("num_tokens")
def _tokens(places, window, first, num_tokens, PADDED: tl.constexpr, ROWS: tl.constexpr, EMPTY: tl.constexpr,
            WIDE: tl.constexpr):  # fmt: skip
    """For some places of a window: their numbers, their tokens, and whether they have one."""
    place = first + tl.arange(0, ROWS)
    row = tl.load(places + window * PADDED + place)
    real = row >= 0
    if EMPTY:
        real = row < num_tokens
    if WIDE:
        row = row.to(tl.int64)
    return place, row, real


@jit()
def _head(tensor, row, real, first, stride, HEAD: tl.constexpr, BLOCK: tl.constexpr, EMPTY: tl.constexpr):
    """Load the numbers of one head of some tokens; zeros at empty places."""
    channel = tl.arange(0, BLOCK)
    at = tensor + row[:, None] * stride + (first + channel)[None, :]
    if EMPTY:
        x = tl.load(at, mask=real[:, None] & (channel < HEAD)[None, :], other=0.0)
    elif HEAD < BLOCK:
        x = tl.load(at, mask=(channel < HEAD)[None, :], other=0.0)
    else:
        x = tl.load(at)
    return x


@jit()
def _fill(x, fill, first, real, HEAD: tl.constexpr, BLOCK: tl.constexpr):
    """Put the numbers of empty places in."""
    channel = tl.arange(0, BLOCK)
    y = tl.load(fill + first + channel, mask=channel < HEAD, other=0.0).to(x.dtype)
    return tl.where(real[:, None], x, y[None, :])


@jit("num_tokens", "heads")
def _attend(
    qkv, empty_bias, bias, places, regions, mixed, lse, num_tokens, heads,
    LENGTH: tl.constexpr, PADDED: tl.constexpr, HEAD: tl.constexpr, BLOCK: tl.constexpr,
    SCALE: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, CUT: tl.constexpr, EMPTY: tl.constexpr,
    WIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    width = heads * HEAD
    BLOCKS: tl.constexpr = (LENGTH + QUERIES - 1) // QUERIES
    LOG2E: tl.constexpr = 1.4426950408889634
    program = tl.program_id(0)
    head = program // BLOCKS % heads
    window = (program // (BLOCKS * heads)).to(tl.int64)
    query, query_row, query_real = _tokens(
        places, window, program % BLOCKS * QUERIES, num_tokens, PADDED, QUERIES, EMPTY, WIDE
    )
    q = _head(qkv, query_row, query_real, head * HEAD, 3 * width, HEAD, BLOCK, EMPTY)
    bias_row = bias + (head.to(tl.int64) * PADDED + query) * PADDED
    if CUT:
        query_region = tl.load(regions + window * PADDED + query)
    most = tl.full((QUERIES,), -float("inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    out = tl.zeros((QUERIES, BLOCK), tl.float32)
    for first in range(0, LENGTH, KEYS):
        key, key_row, key_real = _tokens(places, window, first, num_tokens, PADDED, KEYS, EMPTY, WIDE)
        k = _head(qkv, key_row, key_real, width + head * HEAD, 3 * width, HEAD, BLOCK, EMPTY)
        v = _head(qkv, key_row, key_real, 2 * width + head * HEAD, 3 * width, HEAD, BLOCK, EMPTY)
        if EMPTY:
            k = _fill(k, empty_bias, width + head * HEAD, key_real, HEAD, BLOCK)
            v = _fill(v, empty_bias, 2 * width + head * HEAD, key_real, HEAD, BLOCK)
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * SCALE
        s += tl.load(bias_row[:, None] + key[None, :]).to(tl.float32)
        if CUT:
            key_region = tl.load(regions + window * PADDED + key)
            s = tl.where(query_region[:, None] == key_region[None, :], s, s - 100.0)
        above = tl.maximum(most, tl.max(s, 1))
        p = tl.exp2(s * LOG2E - (above * LOG2E)[:, None])
        shrink = tl.exp2((most - above) * LOG2E)
        total = total * shrink + tl.sum(p, 1)
        out = tl.dot(p.to(v.dtype), v, out * shrink[:, None], input_precision=PRECISION)
        most = above
    channel = tl.arange(0, BLOCK)
    at = mixed + query_row[:, None] * width + (head * HEAD + channel)[None, :]
    written = (query < LENGTH) & query_real
    tl.store(at, out / total[:, None], mask=written[:, None] & (channel < HEAD)[None, :])
    tl.store(lse + (window * heads + head) * PADDED + query, most * LOG2E + tl.log2(total), mask=query < LENGTH)


@jit("num_tokens", "heads")
def _query_gradients(
    qkv, empty_bias, bias, mixed_gradient, lse, mixed, delta, places, regions, qkv_gradient, sums, num_tokens, heads,
    LENGTH: tl.constexpr, PADDED: tl.constexpr, HEAD: tl.constexpr, BLOCK: tl.constexpr,
    SCALE: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, CUT: tl.constexpr, EMPTY: tl.constexpr,
    WIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    width = heads * HEAD
    BLOCKS: tl.constexpr = (LENGTH + QUERIES - 1) // QUERIES
    LOG2E: tl.constexpr = 1.4426950408889634
    program = tl.program_id(0)
    block, head = program % BLOCKS, program // BLOCKS % heads
    window = (program // (BLOCKS * heads)).to(tl.int64)
    column = head * HEAD
    query, row, real = _tokens(places, window, block * QUERIES, num_tokens, PADDED, QUERIES, EMPTY, WIDE)
    q = _head(qkv, row, real, column, 3 * width, HEAD, BLOCK, EMPTY)
    g = _head(mixed_gradient, row, real, column, width, HEAD, BLOCK, EMPTY)
    o = _head(mixed, row, real, column, width, HEAD, BLOCK, EMPTY)
    of_query = (window * heads + head) * PADDED + query
    d = tl.sum(o.to(tl.float32) * g.to(tl.float32), 1)
    tl.store(delta + of_query, d)
    bits = tl.load(lse + of_query)
    bias_row = bias + (head.to(tl.int64) * PADDED + query) * PADDED
    if CUT:
        region = tl.load(regions + window * PADDED + query)
    dq = tl.zeros((QUERIES, BLOCK), tl.float32)
    for first in range(0, LENGTH, KEYS):
        key, key_row, key_real = _tokens(places, window, first, num_tokens, PADDED, KEYS, EMPTY, WIDE)
        k = _head(qkv, key_row, key_real, width + column, 3 * width, HEAD, BLOCK, EMPTY)
        v = _head(qkv, key_row, key_real, 2 * width + column, 3 * width, HEAD, BLOCK, EMPTY)
        if EMPTY:
            k = _fill(k, empty_bias, width + column, key_real, HEAD, BLOCK)
            v = _fill(v, empty_bias, 2 * width + column, key_real, HEAD, BLOCK)
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * SCALE
        s += tl.load(bias_row[:, None] + key[None, :]).to(tl.float32)
        if CUT:
            key_region = tl.load(regions + window * PADDED + key)
            s = tl.where(region[:, None] == key_region[None, :], s, s - 100.0)
        p = tl.exp2(s * LOG2E - bits[:, None])
        ds = p * (tl.dot(g, tl.trans(v), input_precision=PRECISION) - d[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision=PRECISION)
    dq *= SCALE
    channel = tl.arange(0, BLOCK)
    inside = channel < HEAD
    at = qkv_gradient + row[:, None] * (3 * width) + (column + channel)[None, :]
    written = ((query < LENGTH) & real)[:, None] & inside[None, :]
    tl.store(at, dq, mask=written)
    at = sums + (window * BLOCKS + block) * ((6 if EMPTY else 3) * width) + column + channel
    tl.store(at, tl.sum(tl.where(written, dq, 0.0), 0), mask=inside)
    if EMPTY:
        tl.store(at + 3 * width, tl.zeros((BLOCK,), tl.float32), mask=inside)


@jit("num_tokens", "heads")
def _key_gradients(
    qkv, empty_bias, bias, mixed_gradient, lse, delta, places, regions, qkv_gradient, sums, num_tokens, heads,
    LENGTH: tl.constexpr, PADDED: tl.constexpr, HEAD: tl.constexpr, BLOCK: tl.constexpr,
    SCALE: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, CUT: tl.constexpr, EMPTY: tl.constexpr,
    WIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    width = heads * HEAD
    BLOCKS: tl.constexpr = (LENGTH + KEYS - 1) // KEYS
    LOG2E: tl.constexpr = 1.4426950408889634
    program = tl.program_id(0)
    block, head = program % BLOCKS, program // BLOCKS % heads
    window = (program // (BLOCKS * heads)).to(tl.int64)
    column = head * HEAD
    key, key_row, key_real = _tokens(places, window, block * KEYS, num_tokens, PADDED, KEYS, EMPTY, WIDE)
    k = _head(qkv, key_row, key_real, width + column, 3 * width, HEAD, BLOCK, EMPTY)
    v = _head(qkv, key_row, key_real, 2 * width + column, 3 * width, HEAD, BLOCK, EMPTY)
    if EMPTY:
        k = _fill(k, empty_bias, width + column, key_real, HEAD, BLOCK)
        v = _fill(v, empty_bias, 2 * width + column, key_real, HEAD, BLOCK)
    bias_column = bias + head.to(tl.int64) * (PADDED * PADDED) + key
    if CUT:
        key_region = tl.load(regions + window * PADDED + key)
    dk = tl.zeros((KEYS, BLOCK), tl.float32)
    dv = tl.zeros((KEYS, BLOCK), tl.float32)
    for first in range(0, LENGTH, QUERIES):
        query, row, real = _tokens(places, window, first, num_tokens, PADDED, QUERIES, EMPTY, WIDE)
        q = _head(qkv, row, real, column, 3 * width, HEAD, BLOCK, EMPTY)
        g = _head(mixed_gradient, row, real, column, width, HEAD, BLOCK, EMPTY)
        of_query = (window * heads + head) * PADDED + query
        # Scores of keys and queries, not of queries and keys: so they are operands of the last products as they are.
        s = tl.dot(k, tl.trans(q), input_precision=PRECISION) * SCALE
        s += tl.load(bias_column[:, None] + query[None, :] * PADDED).to(tl.float32)
        if CUT:
            region = tl.load(regions + window * PADDED + query)
            s = tl.where(key_region[:, None] == region[None, :], s, s - 100.0)
        p = tl.exp2(s * LOG2E - tl.load(lse + of_query)[None, :])
        dv = tl.dot(p.to(g.dtype), g, dv, input_precision=PRECISION)
        ds = p * (tl.dot(v, tl.trans(g), input_precision=PRECISION) - tl.load(delta + of_query)[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION)
    dk *= SCALE
    channel = tl.arange(0, BLOCK)
    inside = channel < HEAD
    at = qkv_gradient + key_row[:, None] * (3 * width) + (column + channel)[None, :]
    exists = ((key < LENGTH) & key_real)[:, None]
    tl.store(at + width, dk, mask=exists & inside[None, :])
    tl.store(at + 2 * width, dv, mask=exists & inside[None, :])
    at = sums + (window * BLOCKS + block) * ((6 if EMPTY else 3) * width) + column + channel
    tl.store(at + width, tl.sum(tl.where(exists, dk, 0.0), 0), mask=inside)
    tl.store(at + 2 * width, tl.sum(tl.where(exists, dv, 0.0), 0), mask=inside)
    if EMPTY:
        empty = ((key < LENGTH) & (key_row >= num_tokens))[:, None]
        tl.store(at + 4 * width, tl.sum(tl.where(empty, dk, 0.0), 0), mask=inside)
        tl.store(at + 5 * width, tl.sum(tl.where(empty, dv, 0.0), 0), mask=inside)


@jit("num_tokens", "heads", "num_windows")
def _tile_gradients(
    qkv, empty_bias, bias, mixed_gradient, lse, delta, places, regions, out, num_tokens, num_windows, heads,
    LENGTH: tl.constexpr, PADDED: tl.constexpr, HEAD: tl.constexpr, BLOCK: tl.constexpr,
    SCALE: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, CUT: tl.constexpr, EMPTY: tl.constexpr,
    WIDE: tl.constexpr, PRECISION: tl.constexpr, PER_PART: tl.constexpr,
):  # fmt: skip
    width = heads * HEAD
    LOG2E: tl.constexpr = 1.4426950408889634
    ACROSS: tl.constexpr = (LENGTH + KEYS - 1) // KEYS
    DOWN: tl.constexpr = (LENGTH + QUERIES - 1) // QUERIES
    program = tl.program_id(0)
    first_key, first_query = program % ACROSS * KEYS, program // ACROSS % DOWN * QUERIES
    head, part = program // (ACROSS * DOWN) % heads, program // (ACROSS * DOWN * heads)
    column = head * HEAD
    at = (first_query + tl.arange(0, QUERIES))[:, None] * PADDED + (first_key + tl.arange(0, KEYS))[None, :]
    at += head.to(tl.int64) * (PADDED * PADDED)
    tile = tl.load(bias + at)
    total = tl.zeros((QUERIES, KEYS), tl.float32)
    for step in range(PER_PART):
        number = part * PER_PART + step
        window = tl.minimum(number, num_windows - 1).to(tl.int64)
        query, row, real = _tokens(places, window, first_query, num_tokens, PADDED, QUERIES, EMPTY, WIDE)
        key, key_row, key_real = _tokens(places, window, first_key, num_tokens, PADDED, KEYS, EMPTY, WIDE)
        q = _head(qkv, row, real, column, 3 * width, HEAD, BLOCK, EMPTY)
        g = _head(mixed_gradient, row, real, column, width, HEAD, BLOCK, EMPTY)
        k = _head(qkv, key_row, key_real, width + column, 3 * width, HEAD, BLOCK, EMPTY)
        v = _head(qkv, key_row, key_real, 2 * width + column, 3 * width, HEAD, BLOCK, EMPTY)
        if EMPTY:
            k = _fill(k, empty_bias, width + column, key_real, HEAD, BLOCK)
            v = _fill(v, empty_bias, 2 * width + column, key_real, HEAD, BLOCK)
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * SCALE + tile.to(tl.float32)
        if CUT:
            region = tl.load(regions + window * PADDED + query)
            key_region = tl.load(regions + window * PADDED + key)
            s = tl.where(region[:, None] == key_region[None, :], s, s - 100.0)
        of_query = (window * heads + head) * PADDED + query
        p = tl.exp2(s * LOG2E - tl.load(lse + of_query, mask=number < num_windows, other=float("inf"))[:, None])
        ds = tl.dot(g, tl.trans(v), input_precision=PRECISION)
        total += p * (ds - tl.load(delta + of_query)[:, None])
    tl.store(out + part.to(tl.int64) * (heads * PADDED * PADDED) + at, total)
