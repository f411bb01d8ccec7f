"""Sums over rows, in two stages: a kernel leaves the sums of its own rows, and these are added up here.

Always in the same order, so that a step gives the same bits each time, which atomic additions would not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cover.models.kernels.backend import cdiv, jit, tl

BLOCK_ROWS, BLOCK_COLUMNS = 256, 16


def column_sums(parts_PD: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum [D] of float32 parts [P, D]."""
    num_parts, width = parts_PD.shape
    out = torch.empty(width, dtype=dtype, device=parts_PD.device)
    _column_sums[(cdiv(width, BLOCK_COLUMNS),)](parts_PD, out, num_parts, width, ROWS=BLOCK_ROWS, COLUMNS=BLOCK_COLUMNS)
    return out


@jit("num_parts")
def _column_sums(parts, out, num_parts, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    first = 0
    while first < num_parts:
        rows = first + tl.arange(0, ROWS)
        here = (rows < num_parts)[:, None] & (columns < width)[None, :]
        total += tl.load(parts + rows[:, None] * width + columns[None, :], mask=here, other=0.0)
        first += ROWS
    tl.store(out + columns, tl.sum(total, 0), mask=columns < width)
