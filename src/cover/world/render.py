"""Renders the built-in datasets: OUT/<dataset>/<split>/<class>/<map>-<number>.jpg or .mp4.

The work is cut into blocks: some clips of one split, which one episode on one map shows one after the other. A new
episode takes as long as a few clips, so only a new block starts one. A block is rendered whole, and its seed depends
only on (seed, dataset, split, block). So the files depend neither on the number of processes nor on interruptions.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from cover.core.atomic_files import write_whole
from cover.core.progress import progress_bar
from cover.errors import CoverError
from cover.world.game import EpisodeOver, Game
from cover.world.presets import DATASETS, PRESETS, Preset, maps_of
from cover.world.world_dataset import SUFFIXES, ClipFormat, WorldDataset, write_image, write_video

_MAX_ATTEMPTS = 100
_BLOCK_SIZES = {"image": 16, "video": 8}
_BLOCKS_A_TASK = 8
_SETTINGS_FILE = ".world.json"  # hidden, so that indexing does not count it


@dataclass(frozen=True)
class ClipBlock:
    """Clips that one episode on one map shows. `files` has the class name and path of each."""

    dataset: str
    split: str
    map_name: str
    seed: tuple[int, ...]
    clip_format: ClipFormat
    files: tuple[tuple[str, Path], ...]


@dataclass
class DatasetReport:
    """What rendering one dataset took.

    Attributes:
        rendered: New files.
        skipped: Files that existed already.
        refused: Draws that failed their check.
        seconds: Time, added up over processes.
        given_up: Number of clips that are missing, by "CLASS on MAP".
    """

    rendered: int = 0
    skipped: int = 0
    refused: int = 0
    seconds: float = 0.0
    given_up: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: DatasetReport) -> DatasetReport:
        self.rendered += other.rendered
        self.skipped += other.skipped
        self.refused += other.refused
        self.seconds += other.seconds
        self.given_up += other.given_up
        return self


@dataclass
class RenderReport:
    """What `render_world` did, by dataset."""

    datasets: dict[str, DatasetReport]
    wall_seconds: float

    def __str__(self) -> str:
        lines = [f"rendered in {self.wall_seconds:.0f} s"]
        for name, report in self.datasets.items():
            rate = report.rendered / report.seconds if report.seconds else 0
            lines.append(
                f"{name}: {report.rendered} rendered, {report.skipped} already existed, "
                f"{report.refused} draws refused, {rate:.1f} clips/s a process"
            )
            lines += [f"  gave up {count} × {what}" for what, count in sorted(report.given_up.items())]
        return "\n".join(lines)


def render_world(
    out: Path, preset: str, *, seed: int = 0, num_processes: int | None = None, datasets: Sequence[str] | None = None
) -> RenderReport:
    """Render the built-in datasets as media files; files that exist are kept.

    Args:
        out: The folder to render to.
        preset: A name in PRESETS.
        seed: Another seed renders other clips.
        num_processes: All cores by default.
        datasets: Names in DATASETS; all of them by default.

    Raises:
        CoverError: The preset or a dataset is unknown, or `out` holds files of another preset or seed.
    """
    names = tuple(datasets or DATASETS)
    _check("preset", preset, PRESETS)
    for name in names:
        _check("dataset", name, DATASETS)
    for name in names:
        _claim(out / name, preset, seed)
    blocks = [block for name in names for block in plan_blocks(out, DATASETS[name], PRESETS[preset], seed)]
    reports = {name: DatasetReport() for name in names}
    start_seconds = time.monotonic()
    missing = []
    for block in blocks:
        if all(path.exists() for _, path in block.files):
            reports[block.dataset].skipped += len(block.files)
        else:
            missing.append(block)
    for name, report in _rendered(group_by_map(missing), num_processes or os.cpu_count() or 1):
        reports[name] += report
    return RenderReport(reports, time.monotonic() - start_seconds)


def _check(what: str, value: str, known: Mapping[str, object]) -> None:
    if value not in known:
        raise CoverError(f"{value} is not a {what} of the built-in world; choose from {', '.join(known)}")


def _claim(folder: Path, preset: str, seed: int) -> None:
    """Record in a dataset's folder which preset and seed its files belong to."""
    settings = {"preset": preset, "seed": seed}
    file = folder / _SETTINGS_FILE
    if file.exists() and (found := json.loads(file.read_text())) != settings:
        raise CoverError(f"{folder} holds {found}, not {settings}; delete it or render to another folder")
    write_whole(file, json.dumps(settings))


def plan_blocks(out: Path, dataset: WorldDataset, preset: Preset, seed: int) -> Iterator[ClipBlock]:
    """Cut a dataset into blocks. Maps take turns; all classes come equally often, to within one clip."""
    size = _BLOCK_SIZES[dataset.kind]
    for split, num_clips in preset.num_clips[dataset.name].items():
        maps = maps_of(dataset.name, split)
        split_seed = (seed, zlib.crc32(f"{dataset.name}/{split}".encode()))
        classes = _class_sequence(preset.classes(dataset), num_clips, split_seed)
        for index, first in enumerate(range(0, num_clips, size)):
            map_name = maps[index % len(maps)]
            files = tuple(
                (name, out / dataset.name / split / name / f"{map_name}-{number:06d}{SUFFIXES[dataset.kind]}")
                for number, name in enumerate(classes[first : first + size], start=first)
            )
            yield ClipBlock(dataset.name, split, map_name, (*split_seed, index), preset.formats[dataset.kind], files)


def _class_sequence(classes: Sequence[str], num_clips: int, seed: Sequence[int]) -> list[str]:
    """Classes in rounds, each in its own order, so that no class keeps meeting the same maps."""
    rng = np.random.default_rng(seed)
    num_rounds = -(-num_clips // len(classes))
    return [classes[index] for _ in range(num_rounds) for index in rng.permutation(len(classes))][:num_clips]


def group_by_map(blocks: Sequence[ClipBlock]) -> list[list[ClipBlock]]:
    """Group blocks into tasks for processes: a few blocks of the same map each."""
    tasks = []

    def place(block: ClipBlock) -> tuple[str, str, str]:
        return block.dataset, block.split, block.map_name

    for _, group in groupby(sorted(blocks, key=place), place):
        same_map = list(group)
        tasks += [same_map[first : first + _BLOCKS_A_TASK] for first in range(0, len(same_map), _BLOCKS_A_TASK)]
    return tasks


def _rendered(tasks: Sequence[list[ClipBlock]], num_processes: int) -> Iterator[tuple[str, DatasetReport]]:
    """Render tasks in processes, with a progress bar. Yields the dataset and the report of each task."""
    if not tasks:
        return
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(min(num_processes, len(tasks)), mp_context=context) as executor,
        progress_bar("clips") as progress,
    ):
        bar = progress.add_task("rendering", total=sum(len(block.files) for task in tasks for block in task))
        futures: Mapping[Future[DatasetReport], list[ClipBlock]] = {
            executor.submit(render_blocks, task): task for task in tasks
        }
        try:
            for future in as_completed(futures):
                task = futures[future]
                progress.update(bar, advance=sum(len(block.files) for block in task), description=task[0].dataset)
                yield task[0].dataset, future.result()
        except BrokenProcessPool as error:
            raise CoverError(
                "a rendering process was killed, most likely because memory ran out; give it more memory, or lower "
                "--processes; the same command continues"
            ) from error
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def render_blocks(blocks: Sequence[ClipBlock]) -> DatasetReport:
    """Render blocks of one format with one game, in a process of its own."""
    report = DatasetReport()
    start_seconds = time.monotonic()
    clip_format = blocks[0].clip_format
    with Game(clip_format.width_px, clip_format.height_px) as game:
        for block in blocks:
            report += _render_block(game, block)
    report.seconds = time.monotonic() - start_seconds
    return report


def _render_block(game: Game, block: ClipBlock) -> DatasetReport:
    report = DatasetReport()
    rng = np.random.default_rng(block.seed)
    game.start(block.map_name, _random_seed(rng))
    for class_name, path in block.files:
        for _ in range(_MAX_ATTEMPTS):
            frames = _draw(game, block, class_name, rng)
            if frames is not None:
                _write(path, frames, block)
                report.rendered += 1
                break
            report.refused += 1
        else:
            report.given_up[f"{class_name} on {block.map_name}"] += 1
    return report


def _draw(game: Game, block: ClipBlock, class_name: str, rng: np.random.Generator) -> np.ndarray | None:
    try:
        return DATASETS[block.dataset].draw(game, class_name, rng, block.clip_format)
    except EpisodeOver:
        game.start(block.map_name, _random_seed(rng))
        return None


def _write(path: Path, frames: np.ndarray, block: ClipBlock) -> None:
    if DATASETS[block.dataset].kind == "image":
        write_image(path, frames[0])
    else:
        write_video(path, frames, block.clip_format)


def _random_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
