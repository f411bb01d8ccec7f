"""Rendering the built-in datasets: OUT/<dataset>/<split>/<class>/<map>-<number>.jpg or .mp4.

Work comes in blocks: some clips of one split, drawn one after the other in one episode on one map, so that a new
episode is started rarely. A block is rendered whole, and only when one of its files is missing; its seed comes from
(seed, dataset, split, block) alone. So the files do not depend on the number of processes or on interruptions.
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
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from cover.errors import CoverError
from cover.world.dataset import ClipFormat, WorldDataset
from cover.world.game import Game
from cover.world.media_files import SUFFIXES, write_image, write_video
from cover.world.presets import DATASETS, PRESETS, Preset, maps_of

_BLOCK_SIZES = {"image": 16, "video": 8}
_BLOCKS_A_TASK = 8
_MAX_ATTEMPTS = 100
_SETTINGS_FILE = ".world.json"  # hidden, so that indexing does not count it


@dataclass(frozen=True)
class Block:
    """Clips that one episode on one map shows."""

    dataset: str
    split: str
    map_name: str
    seed: tuple[int, ...]
    clip_format: ClipFormat
    files: tuple[tuple[str, Path], ...]  # class name, path


@dataclass
class DatasetReport:
    """What rendering one dataset took. `seconds` adds up over processes; `refused` draws failed their check."""

    rendered: int = 0
    skipped: int = 0
    refused: int = 0
    seconds: float = 0.0
    given_up: Counter[str] = field(default_factory=Counter)  # "class on map" → clips that are missing

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
                f"{name}: {report.rendered} rendered, {report.skipped} were there, {report.refused} draws refused, "
                f"{rate:.1f} clips/s a process"
            )
            lines += [f"  gave up {count} × {what}" for what, count in sorted(report.given_up.items())]
        return "\n".join(lines)


def render_world(
    out: Path, preset: str, *, seed: int = 0, num_processes: int | None = None, datasets: Sequence[str] | None = None
) -> RenderReport:
    """Render the built-in datasets (all, or the named ones) as media files below `out`; files that exist are kept.

    Raises CoverError for an unknown preset or dataset, and where `out` holds another preset's or seed's files.
    """
    names = tuple(datasets or DATASETS)
    for kind, value, known in (("preset", preset, PRESETS), *(("dataset", name, DATASETS) for name in names)):
        if value not in known:
            raise CoverError(f"{value} is not a {kind} of the world; choose from {', '.join(known)}")
    for name in names:
        _claim(out / name, preset, seed)
    blocks = [block for name in names for block in _blocks(out, DATASETS[name], PRESETS[preset], seed)]
    reports = {name: DatasetReport() for name in names}
    start_seconds = time.monotonic()
    missing = []
    for block in blocks:
        if all(path.exists() for _, path in block.files):
            reports[block.dataset].skipped += len(block.files)
        else:
            missing.append(block)
    for name, report in _rendered(_tasks(missing), num_processes or os.cpu_count() or 1):
        reports[name] += report
    return RenderReport(reports, time.monotonic() - start_seconds)


def _claim(folder: Path, preset: str, seed: int) -> None:
    """Note in a dataset's folder which preset and seed its files belong to."""
    settings = {"preset": preset, "seed": seed}
    file = folder / _SETTINGS_FILE
    if file.exists() and (found := json.loads(file.read_text())) != settings:
        raise CoverError(f"{folder} holds {found}, not {settings}; delete it or render to another folder")
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings))


def _blocks(out: Path, dataset: WorldDataset, preset: Preset, seed: int) -> Iterator[Block]:
    """All blocks of a dataset. Maps take turns; every class comes as often as any other, give or take one."""
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
            yield Block(dataset.name, split, map_name, (*split_seed, index), preset.formats[dataset.kind], files)


def _class_sequence(classes: Sequence[str], num_clips: int, seed: Sequence[int]) -> list[str]:
    """Classes in rounds, each round in an order of its own, so that no class keeps meeting the same maps."""
    rng = np.random.default_rng(seed)
    num_rounds = -(-num_clips // len(classes))
    return [classes[index] for _ in range(num_rounds) for index in rng.permutation(len(classes))][:num_clips]


def _tasks(blocks: Sequence[Block]) -> list[list[Block]]:
    """Blocks that one process renders with one game: same format, and as far as possible same map."""
    tasks = []

    def place(block: Block) -> tuple[str, str, str]:
        return block.dataset, block.split, block.map_name

    for _, group in groupby(sorted(blocks, key=place), place):
        same_map = list(group)
        tasks += [same_map[first : first + _BLOCKS_A_TASK] for first in range(0, len(same_map), _BLOCKS_A_TASK)]
    return tasks


def _rendered(tasks: Sequence[list[Block]], num_processes: int) -> Iterator[tuple[str, DatasetReport]]:
    """Render tasks in processes, behind a progress bar; yields each task's dataset and report."""
    if not tasks:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(num_processes, len(tasks)), mp_context=context) as executor, _progress() as progress:
        bar = progress.add_task("rendering", total=sum(len(block.files) for task in tasks for block in task))
        futures: Mapping[Future[DatasetReport], list[Block]] = {executor.submit(_render, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                task = futures[future]
                progress.update(bar, advance=sum(len(block.files) for block in task), description=task[0].dataset)
                yield task[0].dataset, future.result()
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f} clips/s")


def _render(blocks: Sequence[Block]) -> DatasetReport:
    """Render blocks of one format; runs in a process of its own."""
    report = DatasetReport()
    start_seconds = time.monotonic()
    clip_format = blocks[0].clip_format
    with Game(clip_format.width_px, clip_format.height_px) as game:
        for block in blocks:
            report += _render_block(game, block)
    report.seconds = time.monotonic() - start_seconds
    return report


def _render_block(game: Game, block: Block) -> DatasetReport:
    report = DatasetReport()
    dataset = DATASETS[block.dataset]
    rng = np.random.default_rng(block.seed)
    game.start(block.map_name, int(rng.integers(2**31)))
    for class_name, path in block.files:
        for _ in range(_MAX_ATTEMPTS):
            frames = dataset.draw(game, class_name, rng, block.clip_format)
            if frames is not None:
                break
            report.refused += 1
        else:
            report.given_up[f"{class_name} on {block.map_name}"] += 1
            continue
        report.rendered += 1
        if dataset.kind == "image":
            write_image(path, frames[0])
        else:
            write_video(path, frames, block.clip_format)
    return report
