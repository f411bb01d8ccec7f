"""Seconds from the call of `cover predict RUN FILE` to its answer, beside those of torch's own import.

    python benchmarks/startup.py [--rounds 7]

The model is a tiny one and the file a video of 1 s, so that nearly all of the time is start-up. The commands take turns
in every round, and medians count; the first round, which warms the disk's cache, does not. Where other work uses the
cores, seconds of the processor tell more, and OMP_NUM_THREADS=1 keeps threads from waiting for each other.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from cover.config.recipe import parse_recipe
from cover.core.run_files import LATEST, RunFiles
from cover.models.classifier import save_model
from cover.models.create import create_model
from loader import Case, write_dataset

VIDEO = Case("video 160×120, 1 s", 160, 120, 1, 12, 8, 96)


def write_run(folder: Path) -> Path:
    """A run as `cover train` leaves it, with fresh weights."""
    run = RunFiles(folder / "run")
    model: dict[str, Any] = {"variant": "timesformer_tiny", "image_size": VIDEO.crop_px}
    weights = create_model(**model, num_frames=VIDEO.num_frames, heads={"clips": 10})
    save_model(weights, run.checkpoint(1))
    run.pointer_file(LATEST).write_text(run.checkpoint(1).name)
    values = {"policy": "standard", "model": model, "datasets": {"clips": {"train": "clips.arrow"}}}
    parse_recipe(values, "benchmark").write(run.recipe_file)
    return run.path


def seconds(arguments: list[str]) -> tuple[float, float]:
    """Of one Python process: by the clock, and of the processor."""
    started, spent = time.perf_counter(), processor_seconds()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started, processor_seconds() - spent


def processor_seconds() -> float:
    """Of all processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = next(iter(write_dataset(folder / "clips", VIDEO, 1))).file
        commands = {
            "python -c pass": ["-c", "pass"],
            "import torch": ["-c", "import torch"],
            "cover --help": ["-m", "cover.cli", "--help"],
            "cover predict RUN FILE": ["-m", "cover.cli", "predict", str(write_run(folder)), str(video)],
        }
        times: dict[str, list[tuple[float, float]]] = {command: [] for command in commands}
        for number in range(rounds + 1):
            for command, arguments in commands.items():
                taken = seconds(arguments)
                if number:
                    times[command].append(taken)
    medians = {command: [median(values) for values in zip(*taken, strict=True)] for command, taken in times.items()}
    table = Table(
        Column("command", no_wrap=True), "s", "beyond import torch", "s of the processor", "beyond import torch"
    )
    for command, values in medians.items():
        cells = ((value, value - of_torch) for value, of_torch in zip(values, medians["import torch"], strict=True))
        table.add_row(command, *(f"{value:.2f}" for pair in cells for value in pair))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
