"""What a manifest of two million rows costs: writing, opening, reading, and the memory of 16 workers that share it.

    python benchmarks/manifest_scale.py [--num-rows 2000000] [--num-workers 16]

Memory of a worker: RSS counts shared pages in full, PSS divides them among the processes that have them mapped, USS
counts only what is the worker's own. "Before" is a worker that has imported cover and not opened the manifest.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from cover.datasets.manifest import Manifest, write_manifest
from results import write_results

MIB = 2**20


def write(path: Path, num_rows: int) -> Manifest:
    """Rows as a Kinetics-700 manifest has them."""
    numbers = range(num_rows)
    clips = [f"{number:011d}_{number % 300:06d}_{number % 300 + 10:06d}" for number in numbers]
    columns: dict[str, Any] = {
        "sample_id": clips,
        "path": [f"train/class number {number % 700}/{clip}.mp4" for number, clip in enumerate(clips)],
        "label": [number % 700 for number in numbers],
        "source_id": [clip[:11] for clip in clips],
        "source_start_seconds": [float(number % 300) for number in numbers],
        "source_end_seconds": [float(number % 300 + 10) for number in numbers],
    }
    started = time.perf_counter()
    names = [f"class number {number}" for number in range(700)]
    manifest = write_manifest(path, columns, name="big", kind="video", split="train", class_names=names, root="/data")
    print(f"written from columns in {time.perf_counter() - started:.1f} s, {path.stat().st_size / MIB:.0f} MiB")
    return manifest


def read_rows(manifest: Manifest, num_rows: int, seed: int) -> float:
    """Seconds a row, at random."""
    rows = np.random.default_rng(seed).integers(len(manifest), size=num_rows).tolist()
    started = time.perf_counter()
    for row in rows:
        assert manifest[row].label == row % 700
    return (time.perf_counter() - started) / num_rows


def work(path: Path, pipe: Connection, seed: int) -> None:
    """A loader's worker: waits, opens the manifest, reads labels and random rows, and waits to be measured."""
    pipe.send("started")
    pipe.recv()
    manifest = Manifest.open(path)
    assert int(manifest.labels.sum()) > 0
    read_rows(manifest, 20_000, seed)
    pipe.send("read")
    pipe.recv()


def memory_mib(processes: list[Any]) -> dict[str, float]:
    """Median of the workers' memory, in MiB."""
    infos = [psutil.Process(process.pid).memory_full_info() for process in processes]
    return {key: statistics.median(getattr(info, key) for info in infos) / MIB for key in ("rss", "pss", "uss")}


def measure_workers(path: Path, method: str, num_workers: int) -> tuple[dict[str, float], dict[str, float]]:
    """Memory of workers before and after they have read 20,000 rows each."""
    context: Any = multiprocessing.get_context(method)
    pipes = [context.Pipe() for _ in range(num_workers)]
    processes = [context.Process(target=work, args=(path, there, seed)) for seed, (_, there) in enumerate(pipes)]
    for process in processes:
        process.start()
    here = [pipe for pipe, _ in pipes]
    measured = []
    for _ in range(2):
        for pipe in here:
            pipe.recv()
        measured.append(memory_mib(processes))
        for pipe in here:
            pipe.send("go on")
    for process in processes:
        process.join()
    return measured[0], measured[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-rows", type=int, default=2_000_000)
    parser.add_argument("--num-workers", type=int, default=16)
    parser.add_argument("--json", type=Path, help="file for the ratios")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "big.arrow", options.num_rows).path
        started = time.perf_counter()
        manifest = Manifest.open(path)
        print(f"opened in {time.perf_counter() - started:.3f} s")
        print(f"a row at random in {read_rows(manifest, 50_000, 0) * 1e6:.1f} µs")
        started = time.perf_counter()
        assert manifest.digest
        print(f"digest in {time.perf_counter() - started:.1f} s")
        table = Table("workers", "", "RSS", "PSS", "USS", title=f"MiB a worker, median of {options.num_workers}")
        ratios: dict[str, float] = {}
        for method in ("fork", "spawn"):
            before, after = measure_workers(path, method, options.num_workers)
            for when, memory in (("before", before), ("with the manifest", after)):
                table.add_row(method, when, *(f"{memory[key]:.0f}" for key in ("rss", "pss", "uss")))
            ratios[f"{method}: a worker's own memory with the manifest ÷ before"] = after["uss"] / before["uss"]
        Console().print(table)
        write_results(options.json, ratios)


if __name__ == "__main__":
    main()
