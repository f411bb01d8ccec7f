"""Steps of few clips: ours, the published code eager and compiled, and the whole step as one CUDA graph, in one run.

    python benchmarks/small_batch.py                       # Base 8×224 and Small 8×112 on one GPU, some minutes
    python benchmarks/small_batch.py --sizes base --batches 8 --ways ours bound

Below some 16 clips the host launches kernels more slowly than the GPU runs them. Training: forward, loss, backward, and
SGD with momentum, in bf16 with float32 weights, on noise that lies on the GPU. "ours" is a step of `cover train` whose
batch is there already; "recomputed" recomputes every block in the backward pass. "bound" is ours with the optimizer,
recorded whole as one graph: nothing is left for the host. "compiled" is torch.compile(mode="reduce-overhead"), which
replays CUDA graphs, too. Inference: logits of one head. Medians in ms. The warm-up is what building the model and the
first steps take, with all that is compiled and recorded.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from cover.models.cuda_graphs import ClipGraphs
from gpu import (
    LEARNING_RATE,
    NAME,
    NUM_CLASSES,
    SIZES,
    Size,
    Step,
    median_seconds,
    our_logits,
    our_model,
    our_step,
    published_model,
    recorded,
    uint8_frames,
)

REPEATS, WARMUP_STEPS = 30, 6


def autocast() -> torch.autocast:
    return torch.autocast("cuda", torch.bfloat16)


def published(size: Size, training: bool, mode: str | None) -> Step:
    model = published_model(size).train(training)
    called = torch.compile(model, mode=mode) if mode else model
    pixels = uint8_frames(size, size.batch).transpose(0, 1).float().div(127.5).sub(1).contiguous()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4, fused=True)
    labels = torch.randint(NUM_CLASSES, (size.batch,), device="cuda")

    def step() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        with nullcontext() if training else torch.inference_mode(), autocast():
            logits = called(pixels).logits
        if training:
            F.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
            optimizer.zero_grad()

    return step


def bound_in_training(size: Size) -> Step:
    """Our forward and backward pass and the optimizer, recorded as one graph."""
    model, frames = our_model(size, {NAME: NUM_CLASSES}), uint8_frames(size, size.batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4, fused=True)
    labels = torch.randint(NUM_CLASSES, (size.batch,), device="cuda")

    def step() -> None:
        with autocast():
            logits = model({NAME: frames})[NAME]
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return recorded(step)


def ours_in_inference(size: Size, way: str) -> Step:
    logits, frames = our_logits(size, size.batch)
    graphs = ClipGraphs(logits)
    ways: dict[str, Callable[[], Step]] = {
        "graphs off": lambda: lambda: logits(frames),
        "ours": lambda: lambda: graphs(frames),
        "bound": lambda: recorded(lambda: logits(frames)),
    }
    return ways[way]()


def step_of(way: str, size: Size, training: bool) -> Step:
    if way in ("eager", "compiled"):
        return published(size, training, "reduce-overhead" if way == "compiled" else None)
    if not training:
        return ours_in_inference(size, way)
    if way == "bound":
        return bound_in_training(size)
    return our_step(size, **OURS[way])


OURS: dict[str, dict[str, Any]] = {
    "graphs off": {"graphs": "off"},
    "ours": {},
    "recomputed": {"activation_checkpointing": 1},
}  # sections of a recipe
WAYS = ("eager", *OURS, "bound", "compiled")


def measured(way: str, size: Size, training: bool, repeats: int) -> dict[str, float]:
    """Milliseconds of a step, and the seconds of its warm-up."""
    began = time.perf_counter()
    step = step_of(way, size, training)
    for _ in range(WARMUP_STEPS):
        step()
    torch.cuda.synchronize()
    warmup = time.perf_counter() - began
    found = {"ms": 1000 * median_seconds(step, repeats), "warmup": warmup}
    del step
    torch._dynamo.reset()
    gc.collect()
    torch.cuda.empty_cache()
    return found


def show(found: dict[str, Any]) -> None:
    console = Console(width=120)
    table = Table("size", "pass", "clips", *WAYS, "ours × eager", "ours × compiled", "warm-up: ours, compiled",
                  title=f"ms a step, {found['device']}")  # fmt: skip
    for row in found["rows"]:
        times = {way: row[way]["ms"] for way in WAYS if way in row}
        warmups = [f"{row[way]['warmup']:.1f}" if way in row else "–" for way in ("ours", "compiled")]
        ratios = [
            f"{times[way] / times['ours']:.2f}" if {way, "ours"} <= times.keys() else "–"
            for way in ("eager", "compiled")
        ]
        shown = [f"{times[way]:.1f}" if way in times else "–" for way in WAYS]
        table.add_row(row["size"], row["pass"], str(row["clips"]), *shown, *ratios, ", ".join(warmups))
    console.print(table)
    for failure in found["failed"]:
        console.print(f"failed: {failure}", highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["base", "small"], choices=SIZES)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 8, 16, 32], metavar="CLIPS")
    parser.add_argument("--compiled-batches", nargs="+", type=int, default=[8, 32], metavar="CLIPS",
                        help="those that the published code is compiled for, which takes minutes")  # fmt: skip
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--passes", nargs="+", default=["train", "predict"], choices=["train", "predict"])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    found: dict[str, Any] = {"device": device, "rows": [], "failed": []}
    for name in arguments.sizes:
        for purpose in arguments.passes:
            for num_clips in arguments.batches:
                row: dict[str, Any] = {"size": name, "pass": purpose, "clips": num_clips}
                found["rows"].append(row)
                for way in arguments.ways:
                    if way == "compiled" and num_clips not in arguments.compiled_batches:
                        continue
                    if way == "recomputed" and purpose == "predict":
                        continue
                    size = replace(SIZES[name], batch=num_clips)
                    try:
                        row[way] = measured(way, size, purpose == "train", arguments.repeats)
                    except RuntimeError as error:
                        found["failed"].append(f"{name}, {purpose}, {num_clips}, {way}: {error!s:.200}")
                print(row, flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps(found, indent=1))
    show(found)


if __name__ == "__main__":
    main()
