"""Run every benchmark at a small size, so that none breaks unnoticed, and compare its ratios with those kept.

    python benchmarks/run_all.py [--only SCRIPT ...]   # or make bench; 4 minutes on 2 cores
    python benchmarks/run_all.py --keep                # three times; the medians become benchmarks/kept.json

A script that fails or does not end in time fails the run. A ratio never does: it is marked if it differs from the kept
one by more than the noise, which is twice the spread of the three runs, and at least 20 %. If a script is skipped, only
its --help runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch

from fresh_run import write_run
from results import Ratios, keep, show

FOLDER = Path(__file__).parent
TIMEOUT_SECONDS, LAST_LINES, ROUNDS = 300, 15, 3
SHARED = {"fresh_run", "gpu", "results", "run_all"}
"""Modules that are no scripts."""
TINY = "--variant timesformer_tiny --num-frames 4"
COMMANDS = [
    "augment --num-clips 1 --rounds 3",
    "backbones --batches 1 --ways ours --repeats 3",
    "checkpoint --variant timesformer_tiny",
    "decode --rounds 1",
    "demo --preset smoke",
    "explain {run} clips --num-samples 2",
    "fp8 --sizes tiny --repeats 3",
    "infer --sizes tiny --repeats 3",
    f"input_pipeline {TINY} --image-size 32 --batch-size 4 --num-files 2 --workers 1 --steps 5 --seconds 0.5",
    "leaks --num-train 1000 --num-val 1000",
    "leaks --search --num-train 1000 --num-val 1000",
    "leaks --index --num-hashes 20000 --num-queries 2000",
    "leaks --robustness {manifest} --num-samples 4",
    f"load_memory {TINY} --image-size 64",
    "loader --num-clips 1 --num-stored 12 --seconds 0.1",
    "loss_curve --variant timesformer_tiny --steps 2 --seeds 1",
    "loss_terms --steps 2 --seeds 1",
    "manifest_scale --num-rows 20000 --num-workers 2",
    "mixed_batch --sizes tiny",
    "mixture_scale --num-rows 20000 --num-workers 2 --num-steps 3",
    "pack --num-clips 1 --seconds 0.2 --only 340",
    f"parallel {TINY} --image-size 32 --batch-size 8 --steps 3",
    f"predict_cpu {TINY} --image-size 64 --batch-sizes 1",
    "serve --rounds 2 --clients 4 --requests 5 --damaged 12",
    "small_batch --sizes tiny --batches 1 --compiled-batches 1 --repeats 3",
    "startup --rounds 1",
    "timeline --minutes 0.5",
    "train_step --sizes tiny --repeats 3",
    "world_rendering --preset smoke --num-clips 4",
]
"""Scripts at a small size. {run} is that of fresh_run.py, {manifest} lists its clips."""
NAMES = sorted({command.split()[0] for command in COMMANDS})
SKIPPED = {"demo": "make smoke runs it"}
if not torch.cuda.is_available():
    SKIPPED |= dict.fromkeys(
        ("backbones", "fp8", "infer", "mixed_batch", "small_batch", "train_step"), "it needs a GPU"
    )


def run_script(arguments: list[str]) -> tuple[bool, str]:
    """Whether it succeeded, and its output. Nothing that it has started is left running."""
    command = [sys.executable, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0)
    try:
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return False, f"it did not end within {TIMEOUT_SECONDS} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode == 0, output


def run_small(command: str, folder: Path) -> tuple[bool, Ratios]:
    """Run a command and print a line about it; whether it succeeded, and its ratios by name."""
    name, *options = command.split()
    is_only = len([other for other in COMMANDS if other.startswith(f"{name} ")]) == 1
    title = name if is_only else f"{name} {options[0]}"
    print(f"{title:24}", end="", flush=True)
    started, results = time.perf_counter(), folder / "results.json"
    results.unlink(missing_ok=True)
    words = ["--help"] if name in SKIPPED else [*options, "--json", str(results)]
    succeeded, output = run_script([str(FOLDER / f"{name}.py"), *words])
    verdict = "failed" if not succeeded else f"skipped: {SKIPPED[name]}" if name in SKIPPED else "ok"
    print(f"{time.perf_counter() - started:6.1f} s  {verdict}", flush=True)
    if not succeeded:
        print(*output.splitlines()[-LAST_LINES:], sep="\n", flush=True)
    found = json.loads(results.read_text()) if results.exists() else {}
    return succeeded, {f"{title}: {ratio}": value for ratio, value in found.get("ratios", {}).items()}


def run_all(names: list[str]) -> tuple[set[str], Ratios]:
    """The scripts that failed, and all ratios."""
    failed, ratios = set[str](), Ratios()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = {"run": write_run(folder), "manifest": next(folder.glob("clips/*.arrow"))}
        for command in COMMANDS:
            script = command.split()[0]
            if script in names:
                succeeded, found = run_small(command.format(**places), folder)
                ratios |= found
                failed |= set() if succeeded else {script}
    return failed, ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=NAMES, choices=NAMES, metavar="SCRIPT")
    parser.add_argument("--keep", action="store_true", help=f"run {ROUNDS} times and keep the ratios")
    parser.add_argument("--kept", type=Path, default=FOLDER / "kept.json", help="where they are kept")
    arguments = parser.parse_args()
    if unlisted := {path.stem for path in FOLDER.glob("*.py")} - SHARED - set(NAMES):
        parser.error(f"{', '.join(sorted(unlisted))} has no small size; add it to COMMANDS in {Path(__file__).name}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which ends the script that runs, too
    rounds = [run_all(arguments.only) for _ in range(ROUNDS if arguments.keep else 1)]
    show(rounds[-1][1], arguments.kept)
    if failed := {name for names, _ in rounds for name in names}:
        raise SystemExit(f"failed: {', '.join(sorted(failed))}")
    if arguments.keep:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, OMP_NUM_THREADS={torch.get_num_threads()}"
        gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
        keep(arguments.kept, [ratios for _, ratios in rounds], machine + gpu)


if __name__ == "__main__":
    main()
