"""Training steps: ours, the published code eager and compiled, and the ceiling, side by side in one run.

    python benchmarks/train_step.py                        # Large 16×448 and Base 8×224, some minutes on one GPU
    python benchmarks/train_step.py --sizes base --profile # and where our time goes, by class of kernel

A step is forward, loss, backward and SGD with momentum, under bf16 autocast with float32 weights, on one batch of noise
that lies on the GPU: uint8 for ours, normalised for the published code, of which as many clips as fit into 80 GB.
TFLOP/s count operations as published. GiB a clip is what a step takes at its peak beyond weights and momentum. Medians.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gpu import (
    LEARNING_RATE,
    NUM_CLASSES,
    Ceiling,
    Contestant,
    Size,
    Step,
    arguments_of,
    our_step,
    published_on_noise,
    race,
)


def published(size: Size, *, compile: bool = False) -> Step:
    num_clips = size.compiled_batch if compile else size.published_batch
    model, logits = published_on_noise(size, num_clips, compile=compile)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4, fused=True)
    labels = torch.randint(NUM_CLASSES, (num_clips,), device="cuda")

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            out = logits()
        F.cross_entropy(out.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def ceiling(size: Size) -> Step:
    module = Ceiling(size, size.batch)
    return lambda: module(training=True)


def contestants(size: Size) -> list[Contestant]:
    return [
        Contestant("published, eager", lambda: published(size), size.published_batch),
        Contestant("ours", lambda: our_step(size), size.batch),
        Contestant("ours, fp8", lambda: our_step(size, precision="fp8"), size.batch),
        Contestant("ours, drop path 0.1", lambda: our_step(size, drop_path_rate=0.1), size.batch),
        Contestant("ours, blocks recomputed", lambda: our_step(size, activation_checkpointing=1), size.batch),
        Contestant("ours, graphs off", lambda: our_step(size, graphs="off"), size.batch),
        Contestant("ceiling", lambda: ceiling(size), size.batch),
        # Last, for compiling takes minutes.
        Contestant("published, compiled", lambda: published(size, compile=True), size.compiled_batch),
        Contestant("ours, without kernels, compiled", lambda: our_step(size, compile=True), size.batch),
    ]


if __name__ == "__main__":
    race(arguments_of(__doc__, ["large", "base"]), 3, contestants)
