"""Triton where it can run: on a GPU, or anywhere under its interpreter (TRITON_INTERPRET=1)."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
RUNS = find_spec("triton") is not None and (torch.cuda.is_available() or INTERPRETED)

if RUNS:
    import triton

tl: Any = triton.language if RUNS else None
"""Files with kernels can be imported anywhere; where none can run, none is launched."""


def jit(*varying: str) -> Callable[[Callable[..., Any]], Any]:
    """Decorates a kernel. varying: numbers among its arguments that change with the batch; it is compiled once for all
    of their values."""
    return triton.jit(do_not_specialize=list(varying)) if RUNS else lambda function: function


def has_kernel(tensor: Tensor) -> bool:
    """Whether work on this tensor is a kernel's. A compiler gets the plain form, to make its own kernels of."""
    return RUNS and (tensor.is_cuda or INTERPRETED) and not torch.compiler.is_compiling()


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """What matrix products compute in: autocast's type where it is on, else the tensor's own."""
    device = tensor.device.type
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if autocast else tensor.dtype


def power_of_two(size: int) -> int:
    """The smallest power of two that is at least `size`: what Triton's blocks measure."""
    return 1 << (size - 1).bit_length()


def cdiv(size: int, block: int) -> int:
    """How many blocks cover `size`."""
    return -(-size // block)
