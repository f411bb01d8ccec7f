"""Losses and clips a second of one process, and of several as DDP and as FSDP2, on synthetic frames.

    python benchmarks/parallel.py                           # VideoClassifier Base, 8 frames at 224, bf16, 2 GPUs
    python benchmarks/parallel.py --precision fp32          # losses alike to rounding
    python benchmarks/parallel.py --variant timesformer_tiny --image-size 32 --batch-size 16 --processes 2   # on CPUs

Every run takes the same steps on the same clips with the same weights. A step is a batch of three quarters videos and
one quarter images, cut into slices, which one process takes one after the other. Losses are compared with those of one
process. "none, other slices" is the yardstick: one process again, that cuts a step into twice as many slices, so that
nothing but rounding sets it apart. Frames are noise that lies in the device's memory, so decoding has no part in it.
The first steps are not timed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe
from cover.core.batch import ClipBatch, MixedBatch
from cover.core.run_files import RunFiles
from cover.mixture.schedule import Sample, Schedule, clip_seed, slice_samples
from cover.models.create import create_model
from cover.training.engine import Engine
from cover.training.launch import start_accelerator
from cover.training.objective import Supervised
from cover.training.packed_batch import PackedBatch
from cover.training.parallel import to_device

CLASSES = {"videos": 400, "images": 1000}
POOL, WARMUP_STEPS, LEARNING_RATE, FIRST_STEPS = 64, 5, 1e-3, 20


class SyntheticClips:
    """A pool of clips of noise in the device's memory, from which schedules pick."""

    def __init__(self, recipe: Recipe, objective: Supervised, device: torch.device) -> None:
        self.objective = objective
        self.device = device
        self.num_frames = {"videos": recipe.model.num_frames, "images": 1}
        generator = torch.Generator().manual_seed(0)
        px = recipe.model.image_size
        self.frames = {
            name: torch.randint(256, (frames, POOL, 3, px, px), dtype=torch.uint8, generator=generator).to(device)
            for name, frames in self.num_frames.items()
        }
        self.schedule = Schedule(dict.fromkeys(CLASSES, POOL), batch_size=recipe.data.batch_size,
                                 rates={"videos": 3.0, "images": 1.0})  # fmt: skip

    def micro_batches(self, step: int, num_slices: int, rank: int, world_size: int) -> list[PackedBatch]:
        """What this process computes in a step."""
        samples = self.schedule.samples(step)
        slices = slice_samples(samples, self.num_frames, num_slices)[rank::world_size]
        counts = self.schedule.counts(samples)
        return [self.objective.pack(MixedBatch(self._clips(part), counts, step), self.device) for part in slices]

    def _clips(self, samples: list[Sample]) -> dict[str, ClipBatch]:
        clips = {}
        for name in {sample.dataset: None for sample in samples}:
            chosen = [sample for sample in samples if sample.dataset == name]
            rows = torch.tensor([sample.index for sample in chosen], device=self.device)
            seeds = torch.tensor([clip_seed(0, sample) for sample in chosen], device=self.device)
            ids = ("",) * len(chosen)
            clips[name] = ClipBatch(name, self.frames[name][:, rows], rows % CLASSES[name], ids, seeds)
        return clips


def recipe_of(arguments: argparse.Namespace, parallel: str) -> Recipe:
    model = {"variant": arguments.variant, "num_frames": arguments.num_frames, "image_size": arguments.image_size}
    training = {
        "parallel": parallel,
        "precision": arguments.precision,
        "compile": arguments.compile,
        "graphs": arguments.graphs,
        "activation_checkpointing": arguments.activation_checkpointing,
    }
    datasets = {name: {"train": "synthetic"} for name in CLASSES}
    values: dict[str, Any] = {"policy": "cotrain", "model": model, "datasets": datasets, "training": training}
    return parse_recipe(values | {"data": {"batch_size": arguments.batch_size}}, "benchmark")


def measure(arguments: argparse.Namespace) -> None:
    """One run, as one of its processes; the first writes down what was found."""
    recipe = recipe_of(arguments, arguments.worker)
    accelerator = start_accelerator(recipe, RunFiles(Path(arguments.out).parent))
    section = recipe.model
    torch.manual_seed(0)
    model = create_model(section.variant, num_frames=section.num_frames, image_size=section.image_size, heads=CLASSES,
                         drop_path_rate=section.drop_path_rate)  # fmt: skip
    to_device(model, recipe.training, accelerator)
    objective = Supervised(recipe)
    engine = Engine(model, objective, recipe, accelerator)
    clips = SyntheticClips(recipe, objective, accelerator.device)
    losses, started = [], 0.0
    for step in range(WARMUP_STEPS + arguments.steps):
        if step == WARMUP_STEPS:
            synchronise(accelerator.device)
            started = time.perf_counter()
        batches = clips.micro_batches(step, arguments.slices, accelerator.process_index, accelerator.num_processes)
        parts = [engine.backward(batch, last=batch is batches[-1]).total for batch in batches]
        engine.step(LEARNING_RATE, step)
        losses.append(accelerator.reduce(torch.stack(parts).sum().double(), reduction="sum"))
    synchronise(accelerator.device)
    found = {
        "clips_per_second": arguments.steps * recipe.data.batch_size / (time.perf_counter() - started),
        "losses": [float(loss) for loss in losses],
        "processes": accelerator.num_processes,
        "slices": arguments.slices,
        "parameters": type(next(model.parameters())).__name__,
        "memory_gib": torch.cuda.max_memory_allocated() / 2**30 if accelerator.device.type == "cuda" else 0.0,
    }
    if accelerator.is_main_process:
        Path(arguments.out).write_text(json.dumps(found))
    accelerator.end_training()


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def launch(parallel: str, num_processes: int, num_slices: int, graphs: str) -> dict[str, Any]:
    """A run of this script in so many processes, with this one's arguments but for the slices."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/found.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)]
        worker = ["--slices", str(num_slices), "--worker", parallel, "--graphs", graphs, "--out", out]
        command = [*(launcher if num_processes > 1 else []), *sys.argv, *worker]
        subprocess.run([sys.executable, *command], check=True)
        found: dict[str, Any] = json.loads(Path(out).read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--variant", default="timesformer_base")
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=256, help="clips of a step, over all processes")
    parser.add_argument("--slices", type=int, default=2, help="micro-batches of a step, over all processes")
    parser.add_argument("--steps", type=int, default=30, help="timed steps")
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--activation-checkpointing", type=int, default=0)
    parser.add_argument("--json", type=Path, help="figures and losses of every run")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--graphs", default="auto", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        measure(arguments)
        return
    count, slices = arguments.processes, arguments.slices
    if slices % count:
        parser.error(f"--slices {slices} cannot be dealt out evenly to {count} processes")
    chosen = {
        "none": ("none", 1, slices, "auto"),
        "none, other slices": ("none", 1, 2 * slices, "auto"),
        "ddp": ("ddp", count, slices, "auto"),
        "ddp, graphs off": ("ddp", count, slices, "off"),
        "fsdp": ("fsdp", count, slices, "off"),
    }
    runs: dict[str, dict[str, Any]] = {}
    for name, run in chosen.items():
        runs[name] = found = launch(*run)
        print(f"{name}: {found['clips_per_second']:.1f} clips/s, last loss {found['losses'][-1]:.5f}", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(runs))
    show(runs)


def show(runs: dict[str, dict[str, Any]]) -> None:
    one = runs["none"]
    table = Table("parallel", "processes", "slices", "parameters", "clips/s", "x one", "GiB", "first loss", "last loss",
                  f"{FIRST_STEPS} steps", "all steps", caption="steps: largest rel. difference of losses")  # fmt: skip
    for name, run in runs.items():
        differences = [abs(a - b) / abs(b) for a, b in zip(run["losses"], one["losses"], strict=True)]
        table.add_row(
            name,
            str(run["processes"]),
            str(run["slices"]),
            run["parameters"],
            f"{run['clips_per_second']:.1f}",
            f"{run['clips_per_second'] / one['clips_per_second']:.2f}",
            f"{run['memory_gib']:.1f}",
            f"{run['losses'][0]:.5f}",
            f"{run['losses'][-1]:.5f}",
            f"{max(differences[:FIRST_STEPS]):.1e}",
            f"{max(differences):.1e}",
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
