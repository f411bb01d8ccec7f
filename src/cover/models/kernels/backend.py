"""What all kernels use: Triton, if it can run, and sums over rows.

Triton runs on GPUs of compute capability 8.0 and later, and anywhere under its interpreter (TRITON_INTERPRET=1). Its
compiler accepts 7.5, too, but has no tensor cores there: temporal attention would take 4 KB of stack a thread.

Sums over rows have two stages. Each program of a kernel writes the sums of its own rows, and `column_sums` adds these.
The order is always the same, so a step gives the same bits each time; with atomic additions it would not.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
RUNS = find_spec("triton") is not None and (torch.cuda.is_available() or INTERPRETED)

if RUNS:
    import triton

tl: Any = triton.language if RUNS else None
"""triton.language, or None if Triton cannot run. Files with kernels can be imported anyway."""
LEAST_CAPABILITY = (8, 0)
"""The oldest GPUs that Triton supports: Ampere."""
HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}
"""What autocast computes in, by `training.precision`. Without an entry there is no autocast."""
BLOCK_ROWS, BLOCK_COLUMNS = 256, 8
"""The parts that one program of `column_sums` adds at a time."""


def jit(*varying: str) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a kernel.

    Args:
        *varying: Arguments of the kernel that are numbers and change with the batch. It is compiled once for all their
            values.
    """
    return triton.jit(do_not_specialize=list(varying)) if RUNS else lambda function: function


def has_kernel(tensor: Tensor) -> bool:
    """Return whether a kernel runs on this tensor. torch.compile gets the plain form, and makes its own kernels."""
    if not RUNS or torch.compiler.is_compiling():
        return False
    return INTERPRETED or (tensor.is_cuda and supports_kernels(tensor.get_device()))


@cache
def supports_kernels(device: int) -> bool:
    """Return whether Triton supports a GPU, by its number. If not, log one line that says so."""
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        logger.warning(
            "GPU %d (%s) has compute capability %d.%d: the model runs in torch's own operations, because the kernels "
            'need 8.0. It has no bfloat16 units, either: precision "fp16" is faster.',
            device, torch.cuda.get_device_name(device), *capability,
        )  # fmt: skip
    return capability >= LEAST_CAPABILITY


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Return the type that matrix products compute in: autocast's type if it is on, otherwise the tensor's own."""
    device = tensor.device.type
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if autocast else tensor.dtype


def power_of_two(size: int) -> int:
    """Return the smallest power of two that is at least `size`. Triton's blocks need such sizes."""
    return 1 << (size - 1).bit_length()


def cdiv(size: int, block: int) -> int:
    """Return the number of blocks that cover `size`."""
    return -(-size // block)


def column_sums(parts_PD: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum over rows, in a fixed order.

    Args:
        parts_PD: float32 [P, D].
        dtype: The type of the result.

    Returns:
        [D].
    """
    num_parts, width = parts_PD.shape
    out = torch.empty(width, dtype=dtype, device=parts_PD.device)
    _column_sums[(cdiv(width, BLOCK_COLUMNS),)](
        parts_PD, out, num_parts, width, ROWS=BLOCK_ROWS, COLUMNS=BLOCK_COLUMNS, num_warps=8
    )
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
