"""A depthwise convolution of attention heads over a grid of tokens, and a layer norm over each head, in one pass.

The kernel reads the channels of a token next to each other, as they lie, and adds in float32. Its backward pass has
three kernels: of the norm, of the tokens, and of the weights. All gather, so gradients are summed in a fixed order.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from cover.models.kernels.backend import cdiv, column_sums, has_kernel, jit, power_of_two, tl

SIDE = 3
"""Rows and columns of a kernel."""
BLOCK_NUMBERS, TAP_NUMBERS = 2048, 8192
"""The numbers of a tile: tokens · features, and tokens · places of the kernel · features."""
MOST_TOKENS, LEAST_TOKENS, PROGRAMS = 256, 16, 2048
"""A program that sums over tokens takes from 16 to 256 of them, so that there are about 2,048 programs."""


def pool_normalise(
    heads_BTYXNHE: Tensor, kernel_NETYX: Tensor, weight_N1E: Tensor, bias_N1E: Tensor, stride: int, eps: float
) -> Tensor:
    """Convolve heads over time, rows and columns, padded with zeros, and normalise each head.

    Args:
        heads_BTYXNHE: The heads of each token. All H heads share the weights of each of the N kinds.
        kernel_NETYX: The convolutions, with an odd number of slots of time.
        weight_N1E: The weights of the norms.
        bias_N1E: Their biases.
        stride: Of rows and columns. Slots of time have a stride of 1.
        eps: Added to the variance.

    Returns:
        [B, T, Y / stride, X / stride, N, H, E], rounded up.
    """
    if has_kernel(heads_BTYXNHE):
        out: Tensor = PoolNormalise.apply(heads_BTYXNHE, kernel_NETYX, weight_N1E, bias_N1E, stride, eps)
        return out
    return plain_pool_normalise(heads_BTYXNHE, kernel_NETYX, weight_N1E, bias_N1E, stride, eps)


def plain_pool_normalise(
    heads_BTYXNHE: Tensor, kernel_NETYX: Tensor, weight_N1E: Tensor, bias_N1E: Tensor, stride: int, eps: float
) -> Tensor:
    """`pool_normalise` in torch's own operations."""
    shape, dtype = heads_BTYXNHE.shape[4:], heads_BTYXNHE.dtype
    kernel_C1TYX = kernel_NETYX[:, None].expand(-1, shape[1], *[-1] * 4).flatten(0, 2)[:, None].to(dtype)
    padding = (kernel_C1TYX.shape[2] // 2, SIDE // 2, SIDE // 2)
    channels_first = heads_BTYXNHE.flatten(4).permute(0, 4, 1, 2, 3)
    pooled = F.conv3d(channels_first, kernel_C1TYX, None, (1, stride, stride), padding, groups=len(kernel_C1TYX))
    normed = F.layer_norm(pooled.permute(0, 2, 3, 4, 1).unflatten(-1, shape), shape[-1:], eps=eps)
    return (normed * weight_N1E + bias_N1E).to(dtype)


class PoolNormalise(Function):
    """`pool_normalise` with kernels."""

    @staticmethod
    def forward(
        ctx: Any, heads: Tensor, kernel: Tensor, weight: Tensor, bias: Tensor, stride: int, eps: float
    ) -> Tensor:
        heads = heads.contiguous()
        num_clips, slots, rows, columns, kinds, num_heads, width = heads.shape
        out_rows, out_columns = cdiv(rows, stride), cdiv(columns, stride)
        taps_NKE = kernel.flatten(2).mT.contiguous()
        out = heads.new_empty(num_clips, slots, out_rows, out_columns, kinds, num_heads, width)
        normed = torch.empty_like(out)
        rstd = torch.empty(out.shape[:-1], dtype=torch.float32, device=heads.device)
        block = power_of_two(width)
        tokens = max(1, BLOCK_NUMBERS // block)
        sizes = slots, rows, columns, out_rows, out_columns, num_heads, kinds * num_heads * width
        num_tokens = num_clips * slots * out_rows * out_columns
        constants = {"WIDTH": width, "BLOCK": block, "SPAN": kernel.shape[2], "STRIDE": stride}
        _forward[(cdiv(num_tokens, tokens), kinds * num_heads)](
            heads, taps_NKE, weight, bias, out, normed, rstd, num_tokens, *sizes, eps, TOKENS=tokens, **constants
        )
        ctx.save_for_backward(heads, taps_NKE, weight, normed, rstd)
        ctx.sizes, ctx.constants, ctx.kernel_shape = sizes, constants, kernel.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        heads, taps_NKE, weight, normed, rstd = ctx.saved_tensors
        (kinds, num_taps, width), num_heads = taps_NKE.shape, heads.shape[5]
        num_tokens, lanes = normed.shape[:4].numel(), kinds * num_heads
        per_program = min(MOST_TOKENS, max(LEAST_TOKENS, power_of_two(cdiv(num_tokens * lanes, PROGRAMS))))
        num_programs = cdiv(num_tokens, per_program)
        sums = torch.empty(num_programs * num_heads, kinds, 2, width, dtype=torch.float32, device=heads.device)
        pooled_gradient = torch.empty_like(normed)
        tokens = min(per_program, max(1, BLOCK_NUMBERS // ctx.constants["BLOCK"]))
        sizes, constants = ctx.sizes, ctx.constants
        _backward_norm[(num_programs, lanes)](
            gradients[0].contiguous(), normed, rstd, weight, pooled_gradient, sums, num_tokens, *sizes[-2:], kinds,
            WIDTH=width, BLOCK=constants["BLOCK"], TOKENS=tokens, PER_PROGRAM=per_program,
        )  # fmt: skip
        heads_gradient = torch.empty_like(heads)
        num_inputs = heads.shape[:4].numel()
        _backward_heads[(cdiv(num_inputs, tokens), lanes)](
            pooled_gradient, taps_NKE, heads_gradient, num_inputs, *sizes, TOKENS=tokens, **constants
        )
        parts = torch.empty(num_programs * num_heads, kinds, num_taps, width, dtype=torch.float32, device=heads.device)
        tap_block = power_of_two(num_taps)
        tokens = min(per_program, max(1, TAP_NUMBERS // (tap_block * constants["BLOCK"])))
        _backward_taps[(num_programs, lanes)](
            heads, pooled_gradient, parts, num_tokens, *sizes, kinds,
            TAPS=num_taps, TAP_BLOCK=tap_block, TOKENS=tokens, PER_PROGRAM=per_program, **constants, num_warps=8,
        )  # fmt: skip
        of_weight, of_bias = column_sums(sums.flatten(1), weight.dtype).view(kinds, 2, 1, width).unbind(1)
        of_taps = column_sums(parts.flatten(1), taps_NKE.dtype).view(kinds, num_taps, width)
        return heads_gradient, of_taps.mT.reshape(ctx.kernel_shape), of_weight, of_bias, None, None


@jit()
def _places(token, slots, rows, columns):
    """The clip, slot, row and column of tokens."""
    frame = token // columns // rows
    return frame // slots, frame % slots, token // columns % rows, token % columns


@jit("num_tokens", "slots", "rows", "columns", "out_rows", "out_columns", "num_heads")
def _forward(
    heads, taps, weight, bias, out, normed, rstd, num_tokens, slots, rows, columns, out_rows, out_columns, num_heads,
    channels, eps,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    SPAN: tl.constexpr, STRIDE: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    lane, e = tl.program_id(1), tl.arange(0, BLOCK)
    kind, inside = lane // num_heads, e < WIDTH
    clip, slot, row, column = _places(token, slots, out_rows, out_columns)
    total = tl.zeros((TOKENS, BLOCK), tl.float32)
    for span in range(SPAN):
        t = slot + span - SPAN // 2
        for tap in tl.static_range(9):
            y, x = row * STRIDE + tap // 3 - 1, column * STRIDE + tap % 3 - 1
            here = (token < num_tokens) & (t >= 0) & (t < slots) & (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
            at = (((clip * slots + t) * rows + y) * columns + x) * channels + lane * WIDTH
            value = tl.load(heads + at[:, None] + e[None, :], mask=here[:, None] & inside[None, :], other=0.0)
            w = tl.load(taps + ((kind * SPAN + span) * 9 + tap) * WIDTH + e, mask=inside, other=0.0).to(tl.float32)
            total += value.to(tl.float32) * w[None, :]
    total = tl.where(inside[None, :], total - tl.sum(total, 1)[:, None] / WIDTH, 0.0)
    r = tl.rsqrt(tl.sum(total * total, 1) / WIDTH + eps)
    n = total * r[:, None]
    w = tl.load(weight + kind * WIDTH + e, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(bias + kind * WIDTH + e, mask=inside, other=0.0).to(tl.float32)
    at = token[:, None] * channels + lane * WIDTH + e[None, :]
    here = (token < num_tokens)[:, None] & inside[None, :]
    tl.store(out + at, n * w[None, :] + b[None, :], mask=here)
    tl.store(normed + at, n, mask=here)
    tl.store(rstd + token * (channels // WIDTH) + lane, r, mask=token < num_tokens)


@jit("num_tokens", "num_heads", "kinds")
def _backward_norm(
    gradient, normed, rstd, weight, pooled_gradient, sums, num_tokens, num_heads, channels, kinds,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    TOKENS: tl.constexpr, PER_PROGRAM: tl.constexpr,
):  # fmt: skip
    lane, e = tl.program_id(1), tl.arange(0, BLOCK)
    kind, inside = lane // num_heads, e < WIDTH
    w = tl.load(weight + kind * WIDTH + e, mask=inside, other=0.0).to(tl.float32)
    of_weight, of_bias = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for step in range(PER_PROGRAM // TOKENS):
        token = tl.program_id(0).to(tl.int64) * PER_PROGRAM + step * TOKENS + tl.arange(0, TOKENS)
        here = (token < num_tokens)[:, None] & inside[None, :]
        at = token[:, None] * channels + lane * WIDTH + e[None, :]
        g = tl.load(gradient + at, mask=here, other=0.0).to(tl.float32)
        n = tl.load(normed + at, mask=here, other=0.0).to(tl.float32)
        r = tl.load(rstd + token * (channels // WIDTH) + lane, mask=token < num_tokens, other=0.0)
        of_weight += tl.sum(g * n, 0)
        of_bias += tl.sum(g, 0)
        g *= w[None, :]
        g -= tl.sum(g, 1)[:, None] / WIDTH + n * (tl.sum(g * n, 1) / WIDTH)[:, None]
        tl.store(pooled_gradient + at, g * r[:, None], mask=here)
    at = ((tl.program_id(0) * num_heads + lane % num_heads) * kinds + kind) * (2 * WIDTH) + e
    tl.store(sums + at, of_weight, mask=inside)
    tl.store(sums + at + WIDTH, of_bias, mask=inside)


@jit("num_tokens", "slots", "rows", "columns", "out_rows", "out_columns", "num_heads")
def _backward_heads(
    pooled_gradient, taps, heads_gradient, num_tokens, slots, rows, columns, out_rows, out_columns, num_heads, channels,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    SPAN: tl.constexpr, STRIDE: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    lane, e = tl.program_id(1), tl.arange(0, BLOCK)
    kind, inside = lane // num_heads, e < WIDTH
    clip, slot, row, column = _places(token, slots, rows, columns)
    total = tl.zeros((TOKENS, BLOCK), tl.float32)
    for span in range(SPAN):
        t = slot - span + SPAN // 2
        for tap in tl.static_range(9):
            y, x = row - tap // 3 + 1, column - tap % 3 + 1
            here = (token < num_tokens) & (t >= 0) & (t < slots) & (y >= 0) & (x >= 0)
            here &= (y % STRIDE == 0) & (x % STRIDE == 0) & (y // STRIDE < out_rows) & (x // STRIDE < out_columns)
            at = (((clip * slots + t) * out_rows + y // STRIDE) * out_columns + x // STRIDE) * channels + lane * WIDTH
            g = tl.load(pooled_gradient + at[:, None] + e[None, :], mask=here[:, None] & inside[None, :], other=0.0)
            w = tl.load(taps + ((kind * SPAN + span) * 9 + tap) * WIDTH + e, mask=inside, other=0.0).to(tl.float32)
            total += g.to(tl.float32) * w[None, :]
    at = token[:, None] * channels + lane * WIDTH + e[None, :]
    tl.store(heads_gradient + at, total, mask=(token < num_tokens)[:, None] & inside[None, :])


@jit("num_tokens", "slots", "rows", "columns", "out_rows", "out_columns", "num_heads")
def _backward_taps(
    heads, pooled_gradient, parts, num_tokens, slots, rows, columns, out_rows, out_columns, num_heads, channels, kinds,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    SPAN: tl.constexpr, STRIDE: tl.constexpr, TAPS: tl.constexpr, TAP_BLOCK: tl.constexpr, TOKENS: tl.constexpr,
    PER_PROGRAM: tl.constexpr,
):  # fmt: skip
    lane, e, tap = tl.program_id(1), tl.arange(0, BLOCK), tl.arange(0, TAP_BLOCK)
    kind, inside = lane // num_heads, e < WIDTH
    total = tl.zeros((TAP_BLOCK, BLOCK), tl.float32)
    for step in range(PER_PROGRAM // TOKENS):
        token = tl.program_id(0).to(tl.int64) * PER_PROGRAM + step * TOKENS + tl.arange(0, TOKENS)
        at = token[:, None] * channels + lane * WIDTH + e[None, :]
        g = tl.load(pooled_gradient + at, mask=(token < num_tokens)[:, None] & inside[None, :], other=0.0)
        clip, slot, row, column = _places(token, slots, out_rows, out_columns)
        t = slot[:, None] + (tap // 9 - SPAN // 2)[None, :]
        y = (row * STRIDE)[:, None] + (tap // 3 % 3 - 1)[None, :]
        x = (column * STRIDE)[:, None] + (tap % 3 - 1)[None, :]
        here = (token < num_tokens)[:, None] & (tap < TAPS)[None, :]
        here &= (t >= 0) & (t < slots) & (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
        at = ((((clip * slots)[:, None] + t) * rows + y) * columns + x) * channels + lane * WIDTH
        mask = here[:, :, None] & inside[None, None, :]
        value = tl.load(heads + at[:, :, None] + e[None, None, :], mask=mask, other=0.0)
        total += tl.sum(value.to(tl.float32) * g.to(tl.float32)[:, None, :], 0)
    at = (((tl.program_id(0) * num_heads + lane % num_heads) * kinds + kind) * TAPS + tap[:, None]) * WIDTH + e[None, :]
    tl.store(parts + at, total, mask=(tap < TAPS)[:, None] & inside[None, :])
