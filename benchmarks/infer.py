"""Inference: ours, the published code eager and compiled, and the ceiling, side by side in one run.

    python benchmarks/infer.py                      # Base 8×224 and Large 16×448 on one GPU

One batch of noise that lies on the GPU, bf16 autocast, one view a clip. "1×3 views" are three crops of each video, of
frames that were read once, as one batch; its clips are videos. Medians.
"""

from __future__ import annotations

import torch

from cover.models.cuda_graphs import ClipGraphs
from gpu import Ceiling, Contestant, Size, Step, arguments_of, our_logits, published_on_noise, race

NUM_CROPS = 3


def ours(size: Size, num_crops: int = 1, *, float8: bool = False) -> Step:
    logits, frames = our_logits(size, size.batch * num_crops, float8=float8)
    graphs = ClipGraphs(logits)
    return lambda: graphs(frames).unflatten(0, (-1, num_crops)).mean(1)


def published(size: Size, *, compile: bool = False) -> Step:
    model, logits = published_on_noise(size, size.batch, compile=compile)
    model.eval()

    def step() -> None:
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            logits()

    return step


def ceiling(size: Size) -> Step:
    module = Ceiling(size, size.batch)
    return lambda: module(training=False)


def contestants(size: Size) -> list[Contestant]:
    return [
        Contestant("published, eager", lambda: published(size), size.batch),
        Contestant("published, compiled", lambda: published(size, compile=True), size.batch),
        Contestant("ours", lambda: ours(size), size.batch),
        Contestant("ours, fp8", lambda: ours(size, float8=True), size.batch),
        Contestant("ours, 1×3 views", lambda: ours(size, NUM_CROPS), size.batch),
        Contestant("ceiling", lambda: ceiling(size), size.batch),
    ]


if __name__ == "__main__":
    race(arguments_of(__doc__, ["base", "large"]), 1, contestants)
