"""Matrices in float8: rounding, transposition and products.

A number has four bits of exponent and three of mantissa (e4m3), so rounding changes it by at most 1/16. That holds for
numbers from 2⁻⁶ to 448. Each row has a scale that puts its largest number near the upper end of that range. Within a
row, numbers below 2⁻¹⁴ of the largest lose more.

Scales are powers of two. So a scale changes no mantissa, and a rounded matrix can be transposed without being rounded
again. Gradients are e4m3, too: scales take care of their range, and e5m2 would double their rounding errors. torchao's
recipe "rowwise" decides both in the same way.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cover.models.kernels.backend import cdiv, has_kernel, jit, power_of_two, tl

DTYPE = torch.float8_e4m3fn
MULTIPLE = 16
"""Sides of the matrices that a GPU can multiply are multiples of this, except for the number of rows of the result."""
LEAST_CAPABILITY = 8, 9
"""The first compute capability with products of float8."""
ROUNDED_NUMBERS, TILE_ROWS, TILE_COLUMNS = 4096, 128, 128
"""What one program rounds, and the tile that one program transposes."""


class Float8(NamedTuple):
    """A matrix in float8. Its rows are values · scale.

    Attributes:
        values: e4m3, [..., M, K].
        scale: float32, [..., M].
    """

    values: Tensor
    scale: Tensor

    def rows(self, part: slice) -> Float8:
        """Return some rows of a matrix [M, K]."""
        return Float8(self.values[part], self.scale[part])

    def columns(self, part: slice) -> Float8:
        """Return some columns of a matrix [M, K]."""
        return Float8(self.values[:, part], self.scale)


def is_supported(device: torch.device) -> bool:
    """Return whether a device multiplies matrices in float8."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY


def round_rows(matrix: Tensor) -> Float8:
    """Round a matrix to float8.

    Args:
        matrix: [..., M, K].
    """
    if not has_kernel(matrix):
        return plain_round_rows(matrix)
    matrix = matrix.contiguous()
    width = matrix.shape[-1]
    num_rows, block = matrix.numel() // width, power_of_two(width)
    rows_per_program = max(1, ROUNDED_NUMBERS // block)
    out = empty(matrix.shape, matrix.device)
    _round_rows[(cdiv(num_rows, rows_per_program),)](
        matrix, *out, num_rows, WIDTH=width, BLOCK=block, ROWS=rows_per_program
    )
    return out


def plain_round_rows(matrix: Tensor) -> Float8:
    """`round_rows` in torch's own operations."""
    matrix = matrix.float()
    scale = _scale(matrix.abs().amax(-1))
    return Float8((matrix / scale[..., None]).to(DTYPE), scale)


def _scale(largest: Tensor) -> Tensor:
    """Return the smallest power of two s with largest ≤ 448 s."""
    bits = (largest.clamp(min=1e-30) * (1 / 448)).view(torch.int32)
    return ((bits + 0x7FFFFF) & 0x7F800000).view(torch.float32)


def transpose(matrix: Float8) -> Float8:
    """Transpose a matrix, and append columns of zeros until their number is a multiple of 16.

    All rows of the result have one scale, the largest of `matrix`. Only numbers below 2⁻¹⁴ of the largest of the whole
    matrix are rounded again.

    Args:
        matrix: [..., K], which is taken as one matrix [M, K].

    Returns:
        [K, M], with more columns if M is not a multiple of 16.
    """
    values, scale = matrix.values.flatten(0, -2), matrix.scale.flatten()
    largest = scale.amax()
    if not has_kernel(values):
        return plain_transpose(values, scale, largest)
    num_rows, width = values.shape
    padded = MULTIPLE * cdiv(num_rows, MULTIPLE)
    out = empty((width, padded), values.device)
    _transpose[(cdiv(padded, TILE_ROWS), cdiv(width, TILE_COLUMNS))](
        values, scale, largest, out.values.view(torch.int32), out.scale, num_rows,
        WIDTH=width, MULTIPLE=MULTIPLE, ROWS=TILE_ROWS, COLUMNS=TILE_COLUMNS,
    )  # fmt: skip
    return out


def plain_transpose(values: Tensor, scale: Tensor, largest: Tensor) -> Float8:
    """`transpose` in torch's own operations."""
    out = torch.nn.functional.pad((values.float() * (scale / largest)[:, None]).t(), (0, -len(values) % MULTIPLE))
    return Float8(out.to(DTYPE), largest.expand(len(out)).contiguous())


def multiply(left: Float8, right: Float8, bias: Tensor | None = None, *, fast: bool) -> Tensor:
    """Compute left · rightᵀ + bias.

    Args:
        left: [..., M, K]. K is a multiple of 16.
        right: [N, K]. N is a multiple of 16.
        bias: [N].
        fast: Add in the registers of the tensor cores, which keep about 14 bits. Otherwise partial sums of 128 products
            are added in float32.

    Returns:
        bfloat16 [..., M, N].
    """
    out: Tensor = torch._scaled_mm(
        left.values.flatten(0, -2),
        right.values.t(),
        scale_a=left.scale.view(-1, 1),
        scale_b=right.scale.view(1, -1),
        bias=None if bias is None else bias.to(torch.bfloat16),
        out_dtype=torch.bfloat16,
        use_fast_accum=fast,
    )
    return out.view(*left.values.shape[:-1], -1)


def empty(shape: tuple[int, ...], device: torch.device) -> Float8:
    """Return a matrix [..., M, K] for a kernel to write."""
    return Float8(
        torch.empty(shape, dtype=DTYPE, device=device), torch.empty(shape[:-1], dtype=torch.float32, device=device)
    )


@jit()
def row_scales(x):
    """Return the scale of each row of a tile: the smallest power of two s with |x| ≤ 448 s."""
    bits = (tl.maximum(tl.max(tl.abs(x), 1), 1e-30) * (1 / 448)).to(tl.int32, bitcast=True)
    return ((bits + 0x7FFFFF) & 0x7F800000).to(tl.float32, bitcast=True)


@jit()
def inverse(s):
    """Return 1 / s for powers of two, without the rounding and the cost of a division."""
    return (0x7F000000 - s.to(tl.int32, bitcast=True)).to(tl.float32, bitcast=True)


@jit()
def store_float8(values, scale, x, here, row_exists):
    """Round a tile of whole rows, which is zero beyond them, and store values and scales at these addresses."""
    x = x.to(tl.float32)
    s = row_scales(x)
    tl.store(values, (x * inverse(s)[:, None]).to(values.dtype.element_ty), mask=here)
    tl.store(scale, s, mask=row_exists)


@jit("num_rows")
def _round_rows(matrix, values, scale, num_rows, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    rows, columns = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    here = (rows < num_rows)[:, None] & (columns < WIDTH)[None, :]
    at = rows[:, None] * WIDTH + columns[None, :]
    x = tl.load(matrix + at, mask=here, other=0.0)
    store_float8(values + at, scale + rows, x, here, rows < num_rows)


@jit("num_rows")
def _transpose(
    values, scale, largest, out, out_scale, num_rows,
    WIDTH: tl.constexpr, MULTIPLE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    # Four rows of a column move as one number of 32 bits, because shared memory moves single bytes no faster. Triton
    # sees here that the length is a multiple of 16 bytes, so it writes as much at once.
    length = (num_rows + MULTIPLE - 1) // MULTIPLE * (MULTIPLE // 4)
    fours = tl.program_id(0).to(tl.int64) * (ROWS // 4) + tl.arange(0, ROWS // 4)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside, common = columns < WIDTH, tl.load(largest)
    packed = tl.zeros((ROWS // 4, COLUMNS), tl.int32)
    for byte in tl.static_range(4):
        rows = 4 * fours + byte
        at, here = rows[:, None] * WIDTH + columns[None, :], (rows < num_rows)[:, None] & inside[None, :]
        x = tl.load(values + at, mask=here, other=0.0).to(tl.float32)
        x *= (tl.load(scale + rows, mask=rows < num_rows, other=0.0) * inverse(common))[:, None]
        packed |= x.to(values.dtype.element_ty).to(tl.uint8, bitcast=True).to(tl.int32) << (8 * byte)
    at = columns[:, None].to(tl.int64) * length + fours[None, :]
    tl.store(out + at, tl.trans(packed), mask=inside[:, None] & (fours < length)[None, :])
    if tl.program_id(0) == 0:
        tl.store(out_scale + columns, tl.zeros((COLUMNS,), tl.float32) + common, mask=inside)
