"""Seconds of a TimeSformer's forward pass on a CPU: ours beside that of transformers, with the same weights.

    python benchmarks/predict_cpu.py [--rounds 7] [--batch-sizes 1 4]         # Base, 8 frames at 224, float32

The two take turns in every round, and medians count. Frames are random float32 pixels, normalised beforehand, since
transformers leaves that to its preprocessor. The difference is the largest of any logit, over the largest logit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor, nn
from transformers import TimesformerForVideoClassification

from cover.models.classifier import VideoClassifier
from cover.models.create import create_model
from cover.models.linear import freeze_weights
from cover.models.timesformer.transformers import export_transformers
from results import write_results


def models(arguments: argparse.Namespace) -> tuple[VideoClassifier, TimesformerForVideoClassification]:
    """Ours with random weights, in which every parameter matters, and the same as transformers reads our export."""
    shape = {"num_frames": arguments.num_frames, "image_size": arguments.image_size}
    ours = create_model(arguments.variant, **shape, heads={"k400": 400}, temporal_init="random").eval()
    for name, parameter in ours.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.02)
    with tempfile.TemporaryDirectory() as folder:
        export_transformers(ours, Path(folder) / "model", "k400")
        theirs = TimesformerForVideoClassification.from_pretrained(Path(folder) / "model")
    freeze_weights(ours)
    return ours, theirs.eval()


def timed(compute: Callable[[Tensor], Tensor], frames: Tensor) -> tuple[float, Tensor]:
    started = time.perf_counter()
    logits = compute(frames)
    return time.perf_counter() - started, logits


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="timesformer_base")
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4], help="clips of a forward pass")
    parser.add_argument("--rounds", type=int, default=7, help="after a first one that does not count")
    parser.add_argument("--json", type=Path, help="file for the ratios")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    ours, theirs = models(arguments)
    contestants: dict[str, Callable[[Tensor], Tensor]] = {
        "cover": lambda frames: ours.predict(frames)["k400"],
        "transformers": lambda frames: theirs(frames.transpose(0, 1)).logits,
    }
    title = f"{arguments.variant} {arguments.num_frames}x{arguments.image_size}, {torch.get_num_threads()} threads"
    numbers = ("cover, s", "transformers, s", "times as fast", "least", "most", "difference")
    table = Table("clips", *(Column(name, justify="right") for name in numbers), title=title)
    found: dict[str, float] = {}
    for batch_size in arguments.batch_sizes:
        side = arguments.image_size
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        difference = 0.0
        for number in range(arguments.rounds + 1):
            frames = torch.randn(arguments.num_frames, batch_size, 3, side, side)
            answers = {name: timed(compute, frames) for name, compute in contestants.items()}
            mine, other = (answers[name][1] for name in contestants)
            difference = max(difference, float((mine - other).abs().max() / other.abs().max()))
            for name in contestants if number else ():
                seconds[name].append(answers[name][0])
        first, second = seconds.values()
        ratios = [b / a for a, b in zip(first, second, strict=True)]
        row = (median(first), median(second), median(second) / median(first), min(ratios), max(ratios))
        found[f"{batch_size} clips: transformers ÷ cover"] = row[2]
        table.add_row(str(batch_size), *(f"{value:.2f}" for value in row), f"{difference:.1e}")
    Console(width=110).print(table)
    write_results(arguments.json, found)


if __name__ == "__main__":
    main()
