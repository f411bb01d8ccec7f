"""What kernels compute under Triton's interpreter, as a program: `python -m tests.models.kernels.interpreted SIZE`.

The interpreter has to be chosen before Triton is imported, which takes seconds. So one process runs all comparisons.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch
from tests.models.kernels import test_float8, test_kernels, test_pooling, test_window

from cover.models.kernels import backend, folding, mlp, qkv, relative_bias, residual, temporal


def correct_the_interpreter() -> None:
    """Triton's interpreter rounds to float8 wrongly (it loses carries, and cuts subnormal numbers off), and multiplies
    the bits of bfloat16 as whole numbers."""
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    convert, dot = InterpreterBuilder.create_fp_to_fp, InterpreterBuilder.create_dot

    def corrected(self: Any, source: Any, dtype: Any, rounding_mode: Any) -> Any:
        if dtype.scalar != tl.float8e4nv:
            return convert(self, source, dtype, rounding_mode)
        rounded = torch.from_numpy(np.ascontiguousarray(source.data)).to(torch.float8_e4m3fn)
        return TensorHandle(rounded.view(torch.uint8).numpy(), tl.float8e4nv)

    def widened(operand: Any) -> Any:
        if operand.dtype.scalar != tl.bfloat16:
            return operand
        return TensorHandle((operand.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    InterpreterBuilder.create_fp_to_fp = corrected
    InterpreterBuilder.create_dot = lambda self, a, b, *rest: dot(self, widened(a), widened(b), *rest)


def enlarge_blocks() -> None:
    """The interpreter takes as long for an operation on a small block as on a large one."""
    backend.BLOCK_COLUMNS, folding.BLOCK_ROWS = 32, 32
    mlp.BLOCK_ROWS, mlp.FLOAT8_ROWS = 8, 8
    qkv.BLOCK_ROWS, residual.BLOCK_ROWS = 16, 16
    relative_bias.EXPANDED_ROWS, relative_bias.SUMMED_ROWS = 16, 16


def compare(size: test_kernels.Size) -> dict[str, Any]:
    """The errors of all kernels."""
    temporal.MOST_FRAMES = size.most_frames
    quick = size is test_kernels.QUICK
    if quick:
        enlarge_blocks()
    cases = test_kernels.QUICK_CASES if quick else test_kernels.CASES
    found: dict[str, Any] = {
        "blocks": {case: test_kernels.errors(case, "cpu", size) for case in cases},
        "half": test_kernels.half_errors("drop-path", "cpu", torch.float16, size),
        "split": test_kernels.split_error("cpu"),
        "windows": {name: test_window.errors(case, torch.float32, "cpu") for name, case in test_window.CASES.items()},
        "half windows": test_window.errors(test_window.HALF, torch.float16, "cpu"),
        "pooling": test_pooling.errors("cpu"),
    }
    correct_the_interpreter()
    test_float8.compare_kernels("cpu")
    return found if quick else found | {"float8": test_float8.errors("cpu", depth=2)}


if __name__ == "__main__":
    assert backend.INTERPRETED
    print(json.dumps(compare({"quick": test_kernels.QUICK, "full": test_kernels.FULL}[sys.argv[1]])))
