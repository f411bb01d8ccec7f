"""Stochastic depth: each residual branch of a block drops whole clips, by a hash of the clip's seed."""

from __future__ import annotations

import torch
from torch import Tensor


def drop_path_scales(seeds_B: Tensor, depth: int, branches: int, rate: float, first: int = 0) -> Tensor:
    """Return the factor of every residual branch: 0 if it drops a clip, 1 / (1 - p) if it keeps it.

    The probability p of a drop rises linearly from 0 in the first block to `rate` in the last. A factor depends only on
    (clip seed, block, branch), so it is the same on any device, process and micro-batch.

    Args:
        seeds_B: int64, the seeds of the clips.
        depth: The number of blocks.
        branches: The number of residual branches of a block.
        rate: The drop probability of the last block.
        first: The number of the first branch, so that several stacks of blocks drop independently.

    Returns:
        float32 [depth, branches, B].
    """
    position = torch.arange(first, first + depth * branches, device=seeds_B.device).view(depth, branches, 1)
    uniform = _hash_to_uniform(seeds_B + position * 0x632BE59BD9B4E019)
    probability = torch.linspace(0, rate, depth, device=seeds_B.device).view(depth, 1, 1)
    return (uniform >= probability).float() / (1 - probability)


def _hash_to_uniform(value: Tensor) -> Tensor:
    """Hash int64 to numbers in [0, 1), with the finaliser of MurmurHash3. Arithmetic wraps modulo 2⁶⁴."""
    for multiplier in (-0x00AE502812AA7333, -0x3B314601E57A13AD):
        value = (value ^ _shift_right(value, 33)) * multiplier
    return _shift_right(value ^ _shift_right(value, 33), 40).float() * 2.0**-24


def _shift_right(value: Tensor, bits: int) -> Tensor:
    """Shift in zeros; torch's >> on int64 shifts in copies of the sign bit."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)
