"""What each augmentation adds to the time of a training clip, on one core, from files and from a FrameCache.

    python benchmarks/augment.py [--num-clips 16] [--rounds 5]

The cases take turns in every round, so that other work on the machine hits all of them alike; medians are shown. Files
are those of benchmarks/loader.py.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Column, Table

from cover.core.batch import MixedBatch
from cover.datasets.manifest import Manifest
from cover.media.mixing import Mixing
from cover.media.randaugment import RandAugment
from cover.mixture.mixture import Dataset, Mixture
from loader import CASES, Case, write_dataset
from results import write_results

AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "crop and flip alone": {},
    "RandAugment, 1 operation": {"randaugment": RandAugment(1, 9)},
    "RandAugment, 2 operations": {"randaugment": RandAugment(2, 9)},
    "mixup": {"mixing": Mixing(mixup=0.8)},
    "CutMix": {"mixing": Mixing(cutmix=1.0)},
    "RandAugment, 2; mixup and CutMix": {"randaugment": RandAugment(2, 9), "mixing": Mixing(0.8, 1.0)},
}


def batches(manifest: Manifest, case: Case, cache_frames: bool, options: dict[str, Any]) -> Iterator[MixedBatch]:
    """One batch an epoch of the dataset, without end, decoded in this process."""
    dataset = Dataset(manifest, num_frames=case.num_frames, cache_frames=cache_frames, **options)
    mixture = Mixture(
        [dataset],
        batch_size=len(manifest),
        image_size=case.crop_px,
        short_side_px=case.short_side_px,
        num_steps=1_000_000,
    )
    return iter(mixture)


def milliseconds_a_clip(manifest: Manifest, case: Case, cache_frames: bool, rounds: int) -> dict[str, float]:
    """{augmentation: median over rounds}."""
    streams = {name: batches(manifest, case, cache_frames, options) for name, options in AUGMENTATIONS.items()}
    times: dict[str, list[float]] = {name: [] for name in streams}
    for number in range(rounds + 1):
        for name, stream in streams.items():
            start = time.perf_counter()
            next(stream)
            if number:  # the first warms up
                times[name].append(1e3 * (time.perf_counter() - start) / len(manifest))
    return {name: median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-clips", type=int, default=16, help="files of each kind, and clips of a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file for the ratios")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ratios: dict[str, float] = {}
    for case in (CASES[3], CASES[5]):
        title = f"{case.name}: {case.num_frames} frames at {case.crop_px} px"
        table = Table(Column("ms a clip", no_wrap=True), "files", "added", "cached", "added", title=title)
        with tempfile.TemporaryDirectory() as folder:
            manifest = write_dataset(Path(folder) / "clips", case, arguments.num_clips)
            files, cached = (milliseconds_a_clip(manifest, case, kept, arguments.rounds) for kept in (False, True))
        for name in AUGMENTATIONS:
            cells = [(times[name], times[name] - next(iter(times.values()))) for times in (files, cached)]
            table.add_row(name, *(f"{value:.1f}" for pair in cells for value in pair))
        plain, *_, everything = AUGMENTATIONS
        for where, times in (("files", files), ("cached", cached)):
            ratios[f"{case.name}, {where}: all augmentations ÷ none"] = times[everything] / times[plain]
        Console(width=110).print(table)
    write_results(arguments.json, ratios)


if __name__ == "__main__":
    main()
