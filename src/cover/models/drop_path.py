"""Stochastic depth by whole clips, drawn from each clip's own seed."""

from __future__ import annotations

import torch
from torch import Tensor

BRANCHES = 3
"""Residual branches of a block: temporal attention, spatial attention, MLP."""


def drop_path_scales(seeds_B: Tensor, depth: int, rate: float) -> Tensor:
    """Factors of every residual branch: 0 where dropped, 1 / (1 - p) where kept, p rising linearly from 0 to `rate`.

    Each factor depends on (clip seed, block, branch) alone, so it is the same on any device, rank or micro-batch.
    Returns float32 [depth, BRANCHES, B].
    """
    position = torch.arange(depth * BRANCHES, device=seeds_B.device).view(depth, BRANCHES, 1)
    uniform = _hash_to_uniform(seeds_B + position * 0x632BE59BD9B4E019)
    probability = torch.linspace(0, rate, depth, device=seeds_B.device).view(depth, 1, 1)
    return (uniform >= probability).float() / (1 - probability)


def _hash_to_uniform(value: Tensor) -> Tensor:
    """Numbers in [0, 1) from int64, by the finaliser of MurmurHash3 (arithmetic wraps modulo 2⁶⁴)."""
    for multiplier in (-0x00AE502812AA7333, -0x3B314601E57A13AD):
        value = (value ^ _shift_right(value, 33)) * multiplier
    return _shift_right(value ^ _shift_right(value, 33), 40).float() * 2.0**-24


def _shift_right(value: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's >> on int64 repeats the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)
