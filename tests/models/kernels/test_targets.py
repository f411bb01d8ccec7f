"""Kernels compile for small GPUs, and fit into the shared memory of a block there. No GPU is needed.

Each test compiles in a process of its own, in which Triton takes the target for the GPU at hand. The model runs on the
CPU, and a launch of a kernel only compiles it. Modules of kernels are imported there after a GPU is pretended.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch

SHARED_KB = {86: 99, 89: 99, 120: 99}
"""What a block may use, by compute capability: RTX 30, 40 and 50 (CUDA programming guide, compute capabilities)."""
PRECISIONS = {86: ["float32", "bfloat16", "float16"], 89: ["bfloat16", "float8"], 120: ["bfloat16", "float8"]}
SIZES = {
    "tiny": (192, 3),
    "small": (384, 6),
    "base": (768, 12),
    "large": (1024, 16),
    "odd": (36, 3),
    "wide": (1408, 16),
}
"""Width and heads of models."""
PUBLISHED = {"tiny", "small", "base", "large"}
WIDEST = {2: ["64x128", "32x256", "16x512"], 4: ["64x64", "32x128", "16x256"]}
"""By the bytes of a number, the longest clips and widest heads that the kernel of temporal attention takes: frames x
width."""

WINDOWS = {2: ["window-32", "window-128"], 4: ["window-32", "window-64"]}
"""Widths of the heads of attention in windows."""


class Kernel(NamedTuple):
    """A compiled kernel.

    Attributes:
        size: A key of SIZES, or a value of WIDEST or WINDOWS.
        name: Its function.
        shared: Bytes of shared memory of a block.
        stack: Bytes of memory of a thread, for what its registers cannot hold.
    """

    size: str
    name: str
    shared: int
    stack: int


def compiled(target: int, precision: str, sizes: list[str], folder: Path) -> list[Kernel]:
    pytest.importorskip("triton", reason="the extra `test` brings it on Linux")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(target), precision, *sizes],
        env=os.environ | {"TRITON_CACHE_DIR": str(folder), "TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [Kernel(*values) for values in json.loads(run.stdout)]


def test_temporal_attention_with_wide_heads_fits(tmp_path: Path) -> None:
    """The kernel that takes by far the most shared memory."""
    found = compiled(86, "bfloat16", ["32x256"], tmp_path)
    assert {kernel.name for kernel in found} >= {"_attend", "_attend_backward"}
    assert max(kernel.shared for kernel in found) <= 1024 * SHARED_KB[86]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "precision"), [(key, value) for key, values in PRECISIONS.items() for value in values]
)
def test_kernels_of_all_sizes_fit(target: int, precision: str, tmp_path: Path) -> None:
    bytes_of_number = 4 if precision == "float32" else 2
    sizes = [*(SIZES if target == 86 else ["large"]), *WIDEST[bytes_of_number], *WINDOWS[bytes_of_number]]
    found = compiled(target, precision, sizes, tmp_path)
    assert {kernel.size for kernel in found} == {*sizes}
    assert max(kernel.shared for kernel in found) <= 1024 * SHARED_KB[target]
    if precision != "float32":  # whose products take no tensor cores, but registers
        assert max(kernel.stack for kernel in found if kernel.size in PUBLISHED) <= 32


def pretend_gpu(target: int) -> list[tuple[str, Any]]:
    """Make launches compile for a GPU and do nothing else. Returns the list that they add names and kernels to."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.runtime.jit import JITFunction

    with mock.patch("torch.cuda.is_available", return_value=True):
        from cover.models.kernels import backend
    backend.INTERPRETED = True  # kernels take tensors on the CPU

    launched: list[tuple[str, Any]] = []
    launch = JITFunction.run

    def run(self: Any, *arguments: Any, grid: Any, warmup: bool, **settings: Any) -> None:
        launched.append((self.__name__, launch(self, *arguments, grid=grid, warmup=True, **settings)))

    JITFunction.run = run
    driver = mock.Mock()
    driver.get_current_device.return_value = driver.get_current_stream.return_value = 0
    driver.get_current_target.return_value = GPUTarget("cuda", target, 32)
    triton.runtime.driver.set_active(driver)
    return launched


def run_model(width: int, num_heads: int, float8: bool) -> None:
    """A step with videos and images of 32 px, and with drop path."""
    from cover.core.batch import ClipBatch
    from cover.models.create import create_model
    from cover.models.linear import use_float8

    def clips(dataset: str, num_frames: int) -> ClipBatch:
        frames, numbers = torch.zeros(num_frames, 2, 3, 32, 32, dtype=torch.uint8), torch.arange(2)
        return ClipBatch(dataset, frames, numbers * 0, ("",) * 2, numbers)

    settings: dict[str, Any] = {"depth": 2, "width": width, "num_heads": num_heads, "image_size": 32, "num_frames": 8}
    model = create_model("timesformer_tiny", heads={"videos": 2, "images": 2}, drop_path_rate=0.5, **settings)
    if float8:
        use_float8(model)
    logits = model.train()({"videos": clips("videos", 8), "images": clips("images", 1)})
    torch.cat([values.float().flatten() for values in logits.values()]).sum().backward()


def run_temporal(num_frames: int, head_width: int, dtype: torch.dtype) -> None:
    """Temporal attention of one clip, with one head."""
    from cover.models.kernels.products import Input, Weight
    from cover.models.kernels.temporal import temporal_branch
    from cover.models.packing import Group

    tokens = torch.zeros(num_frames, 2, head_width, dtype=dtype, requires_grad=True)
    weight = Weight(torch.zeros(3 * head_width, head_width, dtype=dtype))
    bias, out_weight, groups = weight.exact[:, 0], weight.part(slice(head_width)), (Group(num_frames, 1),)
    temporal_branch(Input(tokens, tokens), weight, bias, out_weight, 1, groups).sum().backward()


def run_windows(head_width: int, dtype: torch.dtype) -> None:
    """Attention in shifted, padded windows with two heads."""
    from cover.models.kernels.products import Input, Weight
    from cover.models.kernels.window import WindowAttention, window_branch
    from cover.models.video_swin.windows import Grid, cut

    windows, width, window = cut([Grid((16, 8, 7), 1)], (8, 7, 7), (4, 3, 3)), 2 * head_width, (8, 7, 7)
    tokens = torch.zeros(1, windows.num_tokens, width, dtype=dtype, requires_grad=True)
    weight = Weight(torch.zeros(3 * width, width, dtype=dtype))
    bias, table = weight.exact[:, 0].float(), torch.zeros(15 * 13 * 13, 2)
    attention = WindowAttention(weight, weight.part(slice(width)), 2, window, windows)
    window_branch(Input(tokens, tokens), weight.exact[:, 0], bias, table, attention).sum().backward()


def stack_of(kernel: Any) -> int:
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"STACK:(\d+)", usage)[0])


def main(target: int, precision: str, sizes: list[str]) -> None:
    launched, found = pretend_gpu(target), set()
    dtype = getattr(torch, precision) if precision != "float8" else torch.bfloat16
    for size in sizes:
        if size in SIZES:
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                run_model(*SIZES[size], float8=precision == "float8")
        elif size.startswith("window-"):
            run_windows(int(size.removeprefix("window-")), dtype)
        else:
            num_frames, head_width = map(int, size.split("x"))
            run_temporal(num_frames, head_width, dtype)
        found |= {Kernel(size, name, kernel.metadata.shared, stack_of(kernel)) for name, kernel in launched}
        launched.clear()
    print(json.dumps(sorted(found)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
