"""Attention in windows by kernels is that of plain operations, with every gradient: on a GPU, and under Triton's
interpreter (test_interpreted.py).
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from cover.models.kernels.products import Input, Weight
from cover.models.kernels.relative_bias import Size
from cover.models.kernels.window import WindowAttention, plain_window_branch, window_branch
from cover.models.kernels.window_attention import fits
from cover.models.video_swin.windows import NO_SHIFT, Grid, cut

LEAVES = "tokens", "qkv bias", "empty places", "bias table", "qkv weight", "output weight"


class Case(NamedTuple):
    """Clips and how they are cut."""

    grids: tuple[Grid, ...]
    window: Size
    shift: Size
    num_heads: int
    head_width: int


CASES = {
    "whole": Case((Grid((2, 3, 3), 2),), (2, 3, 3), NO_SHIFT, 1, 16),
    "shifted, padded, of two sizes": Case((Grid((3, 3, 5), 1), Grid((1, 3, 5), 2)), (2, 3, 3), (1, 1, 1), 1, 8),
    "cut short": Case((Grid((2, 4, 2), 1),), (3, 2, 3), (1, 1, 1), 2, 24),
    "several tiles": Case((Grid((4, 6, 3), 1),), (4, 4, 3), (2, 2, 1), 1, 32),
}
HALF = CASES["shifted, padded, of two sizes"]
"""The case that is compared in half precision, too."""


def output_and_gradients(case: Case, dtype: torch.dtype, device: str, *, plain: bool) -> list[Tensor]:
    """The output, and the gradients of LEAVES."""
    generator = torch.Generator().manual_seed(0)
    windows = cut(case.grids, case.window, case.shift).to(torch.device(device))
    width, rows = case.num_heads * case.head_width, [2 * length - 1 for length in case.window]

    def leaf(*shape: int, scale: float = 1.0, dtype: torch.dtype = dtype) -> Tensor:
        values = scale * torch.randn(*shape, generator=generator)
        return values.to(device, dtype).requires_grad_()

    x, gradient = leaf(1, windows.num_tokens, width), leaf(1, windows.num_tokens, width)
    qkv_bias, empty_bias = leaf(3 * width), leaf(3 * width, dtype=torch.float32)
    table = leaf(rows[0] * rows[1] * rows[2], case.num_heads, dtype=torch.float32)
    qkv_weight, out_weight = leaf(3 * width, width, scale=1.5 * width**-0.5), leaf(width, width, scale=width**-0.5)
    attention = WindowAttention(Weight(qkv_weight), Weight(out_weight), case.num_heads, case.window, windows)
    branch = plain_window_branch if plain else window_branch
    out = branch(Input(x, x), qkv_bias, empty_bias, table, attention)
    leaves = x, qkv_bias, empty_bias, table, qkv_weight, out_weight
    out.backward(gradient)
    return [out.detach(), *(torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in leaves)]


def errors(case: Case, dtype: torch.dtype, device: str) -> dict[str, float]:
    found = output_and_gradients(case, dtype, device, plain=False)
    expected = output_and_gradients(case, torch.float32, device, plain=True)
    return {
        name: float((ours.float() - theirs).norm() / theirs.norm().clamp(min=1e-9))
        for name, ours, theirs in zip(("output", *LEAVES), found, expected, strict=True)
    }


@pytest.mark.needs_cuda
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2), (torch.float16, 4e-3)])
@pytest.mark.parametrize("case", CASES)
def test_kernels_equal_the_plain_operations(case: str, dtype: torch.dtype, most: float) -> None:
    assert max(errors(CASES[case], dtype, "cuda").values()) < most


@pytest.mark.needs_cuda
def test_kernels_give_the_same_bits_twice() -> None:
    case = Case((Grid((16, 28, 28), 2),), (8, 7, 7), (4, 3, 3), 8, 32)
    first, second = (output_and_gradients(case, torch.bfloat16, "cuda", plain=False) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_windows_without_a_kernel_that_fits_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    fits.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert fits(32, torch.bfloat16, 1152)
        assert [fits(32, torch.bfloat16, 2**14) for _ in range(2)] == [False, False]
    (message,) = caplog.messages
    assert "windows of 16384 tokens with heads of 32 numbers of 16 bits" in message
