"""Kernels that pool attention heads compute what torch's own operations do: on a GPU, and under Triton's interpreter
(test_interpreted.py).
"""

from __future__ import annotations

import pytest
import torch

from cover.models.kernels.pooling import plain_pool_normalise, pool_normalise

CASES = [  # clips, slots, rows, columns; kinds, heads, features; slots of a kernel, stride
    ((1, 2, 3, 5), (1, 2, 12), 3, 2),
    ((2, 1, 3, 2), (2, 1, 8), 1, 1),
    ((1, 1, 9, 2), (2, 2, 6), 3, 8),
]


def errors(device: str, dtype: torch.dtype = torch.float32) -> list[float]:
    """The largest error of the result and of each gradient, over all cases, by the largest value."""
    torch.manual_seed(0)
    worst = [0.0] * 5
    for grid, (kinds, num_heads, width), span, stride in CASES:
        shapes = (*grid, kinds, num_heads, width), (kinds, width, span, 3, 3), (kinds, 1, width), (kinds, 1, width)
        inputs = [torch.randn(shape, device=device, requires_grad=True) for shape in shapes]
        heads = inputs[0].to(dtype)
        results = [
            function(heads, inputs[1], inputs[2], inputs[3], stride, 1e-6)
            for function in (pool_normalise, plain_pool_normalise)
        ]
        gradient = torch.randn_like(results[0])
        ours, theirs = (
            [part.detach(), *torch.autograd.grad(part, inputs, gradient, retain_graph=True)] for part in results
        )
        found = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True)]
        worst = list(map(max, worst, found))
    return worst


@pytest.mark.needs_cuda
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_kernels_equal_the_plain_operations(dtype: torch.dtype, tolerance: float) -> None:
    with torch.backends.cudnn.flags(enabled=False):  # whose gradients of float32 weights are in TF32
        assert max(errors("cuda", dtype)) < tolerance
