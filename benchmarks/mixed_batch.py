"""Videos and images in one packed pass, against separate passes, and whether changing counts cost anything.

    python benchmarks/mixed_batch.py                # Large 16×448 and Base 8×224, 4 videos and 4 images, on one GPU

Training passes (forward, loss, backward; no optimizer) in bf16, replayed as CUDA graphs. "By its FLOPs" is the time
that the packed pass would take at the rate of videos alone, images counted by their operations. The second table trains
200 steps without graphs on mixtures whose counts change, and counts what was compiled after the first 50.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cover.models.classifier import VideoClassifier
from gpu import SIZES, Size, median_seconds, our_model, recorded, uint8_frames

HEADS = {"videos": 400, "images": 1000}


def training_pass(model: VideoClassifier, batch: dict[str, Tensor]) -> None:
    with torch.autocast("cuda", torch.bfloat16):
        logits = model(batch)
    sum(values.float().logsumexp(-1).sum() for values in logits.values()).backward()
    model.zero_grad()


def measure_packing(size: Size, num_videos: int, num_images: int) -> dict[str, float]:
    """Milliseconds of each way."""
    model = our_model(size, HEADS)
    videos, images = uint8_frames(size, num_videos), uint8_frames(size, num_images, 1)

    def milliseconds(*batches: dict[str, Tensor]) -> float:
        def passes() -> None:
            for batch in batches:
                training_pass(model, batch)

        return 1000 * median_seconds(recorded(passes), repeats=8)

    alone = milliseconds({"videos": videos})
    # An image is a clip of one frame: 1 / T of the linear layers and of the spatial attention.
    return {
        "videos alone": alone,
        "images alone": milliseconds({"images": images}),
        "separate passes": milliseconds({"videos": videos}, {"images": images}),
        "one packed pass": milliseconds({"videos": videos, "images": images}),
        "by its FLOPs": alone * (1 + num_images / (num_videos * size.num_frames)),
    }


def measure_changing_counts(size: Size, steps: int = 200, warmup: int = 50) -> dict[str, float]:
    """Kernels that were compiled, and the steps' times, while the counts of a mixture vary."""
    import triton

    compiled = []
    triton.knobs.runtime.jit_post_compile_hook = lambda **about: compiled.append(about["fn"].name)
    model, draw = our_model(size, HEADS, drop_path_rate=0.1), random.Random(0)
    pool = {"videos": uint8_frames(size, 8), "images": uint8_frames(size, 24, 1)}
    started, first_seconds, seconds = time.perf_counter(), 0.0, []
    for step in range(steps):
        if step == warmup:
            at_warmup = len(compiled)
        counts = {"videos": draw.randint(2, 8), "images": draw.randint(0, 24)}
        begin = time.perf_counter()
        training_pass(model, {name: pool[name][:, :count] for name, count in counts.items() if count})
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
        first_seconds = first_seconds or time.perf_counter() - started
    return {
        "compiled in the first 50 steps": at_warmup,
        "compiled in the other 150": len(compiled) - at_warmup,
        "seconds of the first step": first_seconds,
        "longest step after 50, ms": 1000 * max(seconds[warmup:]),
        "median step after 50, ms": 1000 * sorted(seconds[warmup:])[len(seconds[warmup:]) // 2],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["large", "base"], choices=SIZES)
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in arguments.sizes:
        found[name] = {"changing": measure_changing_counts(SIZES[name]) if name != "large" else {}}
        found[name]["packing"] = measure_packing(SIZES[name], arguments.videos, arguments.images)
    console = Console(width=120)
    table = Table("size", "pass", "ms", "x separate", title=f"{arguments.videos} videos and {arguments.images} images, "
                  f"{torch.cuda.get_device_name()}, torch {torch.__version__}")  # fmt: skip
    for name, parts in found.items():
        for way, value in parts["packing"].items():
            table.add_row(name, way, f"{value:.1f}", f"{parts['packing']['separate passes'] / value:.2f}")
    console.print(table)
    for name, parts in found.items():
        if parts["changing"]:
            shown = ", ".join(f"{key} {value:.4g}" for key, value in parts["changing"].items())
            console.print(f"{name}, 200 steps: {shown}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
