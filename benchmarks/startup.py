"""Seconds from the call of `cover predict RUN FILE` to its answer, beside those of torch's own import.

    python benchmarks/startup.py [--rounds 7]

The model is that of the quick demo and the file a video of 2 s, so that nearly all of the time is start-up. The
commands take turns in every round, and medians count; the first round, which warms the disk's cache, does not. Where
other work uses the cores, seconds of the processor tell more, and OMP_NUM_THREADS=1 keeps threads from waiting for each
other.
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

from rich.console import Console
from rich.table import Column, Table

from fresh_run import write_run
from results import write_results


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
    parser.add_argument("--json", type=Path, help="file for the ratios")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run = write_run(Path(name))
        video = next(run.parent.glob("clips/*/*.mp4"))
        commands = {
            "python -c pass": ["-c", "pass"],
            "import torch": ["-c", "import torch"],
            "cover --help": ["-m", "cover.cli", "--help"],
            "cover predict RUN FILE": ["-m", "cover.cli", "predict", str(run), str(video)],
        }
        times: dict[str, list[tuple[float, float]]] = {command: [] for command in commands}
        for number in range(arguments.rounds + 1):
            for command, words in commands.items():
                taken = seconds(words)
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
    ours = ("cover --help", "cover predict RUN FILE")
    ratios = {f"{command} ÷ import torch": medians[command][1] / medians["import torch"][1] for command in ours}
    write_results(arguments.json, ratios)


if __name__ == "__main__":
    main()
