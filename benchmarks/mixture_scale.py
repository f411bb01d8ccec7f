"""What a mixture of two million rows costs: starting, each step's schedule, and the memory of its 16 workers.

    python benchmarks/mixture_scale.py [--num-rows 2000000] [--num-workers 16] [--num-steps 60]

A hundredth of the rows is left out, as an exclusion list does. All rows name one of eight small pictures, so that the
clock shows the mixture and not the decoding. Memory of a worker: RSS counts shared pages in full, PSS divides them
among the processes that have them, USS counts only what is the worker's own.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

from cover.datasets.exclusion import read_exclusions, without_excluded, write_exclusions
from cover.datasets.manifest import Manifest, ManifestRow, write_manifest
from cover.mixture.mixture import Dataset, Mixture
from results import write_results

MIB = 2**20
BATCH_SIZE = 128


@contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - started:.3f} s")


def write(folder: Path, num_rows: int) -> Path:
    """A manifest of pictures, with ids as ImageNet-21k has them, and a list that excludes every hundredth."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 3), np.uint8)
    for number in range(8):
        Image.fromarray(pixels[number]).save(folder / f"{number}.jpg")
    rows = (
        ManifestRow(f"n{i % 20000:08d}/n{i % 20000:08d}_{i}.JPEG", f"{i % 8}.jpg", i % 1000) for i in range(num_rows)
    )
    names = [str(number) for number in range(1000)]
    write_manifest(folder / "big.arrow", rows, name="big", kind="image", split="train", class_names=names, root=folder)
    excluded = [f"n{i % 20000:08d}/n{i % 20000:08d}_{i}.JPEG" for i in range(0, num_rows, 100)]
    write_exclusions(folder / "leaks.csv", [("big", "train", sample_id, "", "") for sample_id in excluded])
    return folder / "big.arrow"


def memory_mib() -> dict[str, float]:
    """Of the workers, the median in MiB."""
    infos = [child.memory_full_info() for child in psutil.Process().children()]
    return {key: statistics.median(getattr(info, key) for info in infos) / MIB for key in ("rss", "pss", "uss")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-rows", type=int, default=2_000_000)
    parser.add_argument("--num-workers", type=int, default=16)
    parser.add_argument("--num-steps", type=int, default=60)
    parser.add_argument("--json", type=Path, help="file for the ratios")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = write(Path(name), options.num_rows)
        with timed("open"):
            whole = Manifest.open(path)
        with timed("digest"):
            assert whole.digest
        with timed("leave out a hundredth"):
            manifest = without_excluded(whole, read_exclusions([path.parent / "leaks.csv"]))
        with timed("digest of the rest"):
            assert manifest.digest
        with timed("mixture"):
            dataset = Dataset(manifest)
            mixture = Mixture([dataset], batch_size=BATCH_SIZE, image_size=32, num_workers=options.num_workers)
        with timed(f"schedule of 100 steps of {BATCH_SIZE}"):
            for step in range(100):
                mixture.schedule.samples(step)
        table = Table("after", "RSS", "PSS", "USS", title=f"MiB a worker, median of {options.num_workers}")
        pss: list[float] = []
        with closing(iter(mixture)) as batches:
            for step in range(options.num_steps):
                next(batches)
                if step in (0, options.num_steps - 1):
                    memory = memory_mib()
                    pss.append(memory["pss"])
                    table.add_row(f"step {step + 1}", *(f"{value:.0f}" for value in memory.values()))
        Console().print(table)
        write_results(options.json, {"a worker's memory (PSS): last step ÷ first": pss[-1] / pss[0]})


if __name__ == "__main__":
    main()
