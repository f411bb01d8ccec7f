"""Does training wait for its data? Clips a second of training from real files, of the loader alone, of the model alone.

    python benchmarks/input_pipeline.py --folder clips --json found.json           # a GPU and 16 cores, some minutes
    python benchmarks/input_pipeline.py --folder clips --cases base-packed         # one of the three cases
    python benchmarks/input_pipeline.py --variant timesformer_tiny --num-frames 4 --image-size 32 --batch-size 8 \\
        --num-files 4 --workers 1 --steps 5 --seconds 0.5                          # on a CPU, to try the script

Files are H.264 340×256, 10 s at 25 fps, a keyframe every 250 frames (`scene` of benchmarks/pack.py), and their copies
by `cover pack`. They are made once and stay in --folder. Training walks through them again and again, so that they come
from the system's cache, not from a disk.

Each case trains with the trainer of `cover train`. At most two micro-batches a worker lie ready in the loader; so many
pass before the clock starts, and as many are timed (at least 5), or --steps. The model alone takes steps on a batch of
noise that is on the device already, for --seconds or, where a step takes a second as Large's does, 5 steps; once before
and once after the training; the faster counts. `waiting` is the share of time in which the trainer asks for a batch,
whether or not the GPU has something to do meanwhile; `lost` compares training with the model alone. Cores are seconds
of the processor, in all processes, by seconds of the clock.

Each case is printed, and written to --json, as soon as it is measured.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from rich.console import Console
from rich.table import Column, Table

from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe
from cover.core.process_pool import available_cpus, run_in_processes
from cover.core.run_files import RunFiles
from cover.curation.dataset_pass import Pool
from cover.curation.pack import PackFormat
from cover.curation.pack import pack as pack_manifest
from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest
from cover.runs.plan import plan
from cover.runs.train import create, throughput
from cover.training.checkpoint import TrainingState
from cover.training.engine import Engine
from cover.training.launch import start_accelerator
from cover.training.metrics import TrainMetrics
from cover.training.objective import Supervised
from cover.training.packed_batch import PackedBatch
from cover.training.parallel import to_device
from cover.training.trainer import Trainer
from pack import CASES as VIDEOS
from pack import write_video
from results import write_results

NAME, SCENE, NUM_CLASSES = "clips", VIDEOS[1], 8
READY = 2
"""Micro-batches that torch's DataLoader lets a worker have ready."""
WARMUP_STEPS, MIN_STEPS, NO_END = 3, 5, 10**9


@dataclass(frozen=True)
class Case:
    """A model and the files that it is trained on."""

    variant: str
    num_frames: int
    image_size: int
    batch_size: int
    files: str

    @property
    def name(self) -> str:
        return f"{self.variant.removeprefix('timesformer_')}-{self.files}"


CASES = [
    Case("timesformer_large", 16, 448, 16, "H.264"),
    Case("timesformer_base", 8, 224, 128, "packed"),
    Case("timesformer_base", 8, 224, 128, "H.264"),
]


def write_files(folder: Path, num_files: int) -> dict[str, Manifest]:
    """The videos and their packed copies, made where they are not there yet."""
    started = time.perf_counter()
    files = [folder / f"videos/train/class {seed % NUM_CLASSES}/{seed}.mp4" for seed in range(num_files)]
    missing = [seed for seed, path in enumerate(files) if not path.exists()]
    made = run_in_processes(
        partial(write_file, files), missing, num_processes=min(available_cpus(), len(missing)), timeout_seconds=300
    )
    for seed, lost in made:
        if lost:
            raise RuntimeError(f"video {seed}: {lost.reason}")
    videos = index_folder(folder / "videos", kind="video", out=folder)[0]
    packed = pack_manifest(videos, folder / "packed", PackFormat()).run(Pool())
    print(f"{num_files} videos and their copies: {time.perf_counter() - started:.0f} s", flush=True)
    return {"H.264": videos, "packed": packed}


def write_file(files: list[Path], seed: int) -> None:
    files[seed].parent.mkdir(parents=True, exist_ok=True)
    unfinished = files[seed].parent / f".{seed}.mp4"
    write_video(unfinished, SCENE, seed)
    unfinished.replace(files[seed])


def recipe_of(case: Case, manifest: Manifest, arguments: argparse.Namespace) -> Recipe:
    model = {"variant": case.variant, "num_frames": case.num_frames, "image_size": case.image_size}
    data = {"batch_size": case.batch_size, "num_workers": arguments.workers}
    training = {"precision": arguments.precision, "compile": arguments.compile, "micro_batches": "auto"}
    values: dict[str, Any] = {"policy": "standard", "model": model, "data": data, "training": training}
    return parse_recipe(values | {"datasets": {NAME: {"train": manifest.path}}}, "benchmark")


class Rate(NamedTuple):
    """Of something done a number of times: times a second, and cores in use."""

    per_second: float
    cores: float


def timed(do: Callable[[], object], times: int, device: torch.device) -> Rate:
    synchronise(device)
    started, spent = time.perf_counter(), processor_seconds()
    for _ in range(times):
        do()
    synchronise(device)
    seconds = time.perf_counter() - started
    return Rate(times / seconds, (processor_seconds() - spent) / seconds)


def processor_seconds() -> float:
    """Of this process and its children."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return float(sum(its.user + its.system for its in times))


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Training:
    """A case, built as `cover.runs.train.train` builds it."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.plan = replace(plan(recipe), num_steps=NO_END)
        self.accelerator = start_accelerator(recipe, None)
        self.device = self.accelerator.device
        self.model = create(self.plan)
        self.mixture = self.plan.mixture(TrainingState(), self.accelerator)
        to_device(self.model, recipe.training, self.accelerator)
        objective = self.plan.objective
        self.mixture.num_micro_batches = objective.num_micro_batches(self.model, self.mixture, self.accelerator)
        self.engine = Engine(self.model, objective, recipe, self.accelerator)
        self.ready_steps = -(-READY * recipe.num_workers // self.mixture.num_micro_batches)

    def trainer(self, batches: Iterator[PackedBatch]) -> Trainer:
        return Trainer(
            recipe=self.recipe,
            run=RunFiles(Path(tempfile.gettempdir())),  # nothing is written into it
            engine=self.engine,
            mixture=self.mixture,
            batches=batches,
            num_steps=NO_END,
            steps_per_epoch=NO_END,
            state=TrainingState(),
            totals=TrainMetrics([NAME], self.accelerator),
            speed=throughput(self.plan, self.accelerator),
            console=Console(quiet=True),
        )

    def steps(self, batches: Iterator[PackedBatch], num_warmup: int, num_steps: int) -> tuple[Rate, float]:
        """The rate of steps, and the share of time in which a batch was asked for."""
        trainer = self.trainer(batches)
        for _ in range(num_warmup):
            trainer.train_step()
        synchronise(self.device)
        trainer.speed.take()
        rate = timed(trainer.train_step, num_steps, self.device)
        return rate, trainer.speed.take()["data_wait_share"]

    def model_alone(self, seconds: float) -> float:
        """Steps a second on noise that is on the device."""
        blank = self.mixture.blank_batch(self.mixture.num_micro_batches)
        clips = {
            name: replace(part, frames=torch.randint(256, part.frames.shape, dtype=torch.uint8))
            for name, part in blank.clips.items()
        }
        objective = self.plan.objective
        assert isinstance(objective, Supervised)
        batches = repeat(objective.pack(replace(blank, clips=clips), self.device))
        first, _ = self.steps(batches, WARMUP_STEPS, 1)
        return self.steps(batches, 0, max(round(seconds * first.per_second), MIN_STEPS))[0].per_second

    def from_files(self, num_steps: int) -> tuple[Rate, float]:
        with closing(self.plan.objective.batches(self.mixture, self.device)) as batches:
            return self.steps(batches, WARMUP_STEPS + self.ready_steps, num_steps)

    def loader_alone(self, seconds: float) -> Rate:
        """Steps a second of which the batches lie in page-locked memory, if there is a GPU."""
        with closing(iter(self.mixture)) as batches:

            def step() -> None:
                for _ in range(self.mixture.num_micro_batches):
                    next(batches)

            first = timed(step, self.ready_steps + 1, self.device)
            return timed(step, max(round(seconds * first.per_second), self.ready_steps), self.device)


def measure(case: Case, manifest: Manifest, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of a case; rates in clips a second."""
    gc.collect()  # what the case before has left on the device
    training = Training(recipe_of(case, manifest, arguments))
    num_steps = arguments.steps or max(training.ready_steps, MIN_STEPS)
    before = training.model_alone(arguments.seconds)
    trained, waiting_share = training.from_files(num_steps)
    model = max(before, training.model_alone(arguments.seconds))
    loader = training.loader_alone(2 * arguments.seconds)
    return asdict(case) | {
        "micro_batches": training.mixture.num_micro_batches,
        "workers": training.recipe.num_workers,
        "steps": num_steps,
        "training": case.batch_size * trained.per_second,
        "model": case.batch_size * model,
        "loader": case.batch_size * loader.per_second,
        "waiting_share": waiting_share,
        "lost_share": 1 - trained.per_second / model,
        "training_cores": trained.cores,
        "loader_cores": loader.cores,
    }


def ratios_of(found: list[dict[str, Any]]) -> dict[str, float]:
    """Of each case, the speed of training to that of its slower part."""
    return {
        f"{row['variant']}, {row['files']}: training ÷ slower part": row["training"] / min(row["model"], row["loader"])
        for row in found
    }


def print_table(found: list[dict[str, Any]], title: str) -> None:
    numbers = ("batch", "training", "model", "loader", "waiting %", "lost %", "cores, training", "cores, loader")
    table = Table("case", "files", *(Column(name, justify="right") for name in numbers), title=title)
    for row in found:
        shares = (f"{100 * row[name]:.1f}" for name in ("waiting_share", "lost_share"))
        table.add_row(
            f"{row['variant'].removeprefix('timesformer_')} {row['num_frames']}x{row['image_size']}",
            row["files"],
            f"{row['batch_size']} / {row['micro_batches']}",
            *(f"{row[name]:,.1f}" for name in ("training", "model", "loader")),
            *shares,
            *(f"{row[name]:.1f}" for name in ("training_cores", "loader_cores")),
        )
    Console(width=130).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the files are kept; by default nowhere")
    parser.add_argument("--json", type=Path, help="file for the figures")
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="+", default=names, choices=names, help="by default all three")
    parser.add_argument("--variant", help="measure this model, from both kinds of files, instead of the three cases")
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--num-files", type=int, default=64)
    parser.add_argument("--workers", type=int, default=available_cpus())
    parser.add_argument("--steps", type=int, help="timed steps; by default as many as lie ready, at least 5")
    parser.add_argument("--seconds", type=float, default=2.0, help="time of the model alone, half of the loader's")
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    shape = (arguments.num_frames, arguments.image_size, arguments.batch_size)
    chosen = [case for case in CASES if case.name in arguments.cases]
    if arguments.variant:
        chosen = [Case(arguments.variant, *shape, files) for files in ("packed", "H.264")]
    with tempfile.TemporaryDirectory() as temporary:
        manifests = write_files(arguments.folder or Path(temporary), arguments.num_files)
        found: list[dict[str, Any]] = []
        for case in chosen:
            row = measure(case, manifests[case.files], arguments)
            found.append(row)
            rates = ", ".join(f"{name} {row[name]:.1f}" for name in ("training", "model", "loader"))
            shares = ", ".join(f"{name} {100 * row[f'{name}_share']:.1f} %" for name in ("waiting", "lost"))
            print(f"{case.name}: {rates} clips/s, {shares}", flush=True)
            write_results(arguments.json, ratios_of(found), cases=found)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print_table(found, f"clips a second, {arguments.workers} workers, {available_cpus()} cores, {device}")


if __name__ == "__main__":
    main()
