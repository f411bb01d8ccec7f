"""Rendering the built-in datasets: OUT/<dataset>/<split>/<class>/<map>-<number>.jpg or .mp4."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from cover.core.atomic_files import write_whole
from cover.core.progress import progress_bar
from cover.errors import CoverError
from cover.world.blocks import Block, group_by_map, plan_blocks
from cover.world.game import EpisodeOver, Game
from cover.world.presets import DATASETS, PRESETS
from cover.world.report import DatasetReport, RenderReport
from cover.world.world_dataset import write_image, write_video

_MAX_ATTEMPTS = 100
_SETTINGS_FILE = ".world.json"  # hidden, so that indexing does not count it


def render_world(
    out: Path, preset: str, *, seed: int = 0, num_processes: int | None = None, datasets: Sequence[str] | None = None
) -> RenderReport:
    """Render the built-in datasets (all, or the named ones) as media files below `out`; files that exist are kept.

    Raises CoverError for an unknown preset or dataset, and where `out` holds another preset's or seed's files.
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
    """Note in a dataset's folder which preset and seed its files belong to."""
    settings = {"preset": preset, "seed": seed}
    file = folder / _SETTINGS_FILE
    if file.exists() and (found := json.loads(file.read_text())) != settings:
        raise CoverError(f"{folder} holds {found}, not {settings}; delete it or render to another folder")
    write_whole(file, json.dumps(settings))


def _rendered(tasks: Sequence[list[Block]], num_processes: int) -> Iterator[tuple[str, DatasetReport]]:
    """Render tasks in processes, behind a progress bar; yields each task's dataset and report."""
    if not tasks:
        return
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(min(num_processes, len(tasks)), mp_context=context) as executor,
        progress_bar("clips") as progress,
    ):
        bar = progress.add_task("rendering", total=sum(len(block.files) for task in tasks for block in task))
        futures: Mapping[Future[DatasetReport], list[Block]] = {
            executor.submit(render_blocks, task): task for task in tasks
        }
        try:
            for future in as_completed(futures):
                task = futures[future]
                progress.update(bar, advance=sum(len(block.files) for block in task), description=task[0].dataset)
                yield task[0].dataset, future.result()
        except BrokenProcessPool as error:
            raise CoverError(
                "a process that renders was killed, most likely because memory ran out; give it more memory, or "
                "lower --processes; the same command continues"
            ) from error
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def render_blocks(blocks: Sequence[Block]) -> DatasetReport:
    """Render blocks of one format with one game; runs in a process of its own."""
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


def _draw(game: Game, block: Block, class_name: str, rng: np.random.Generator) -> np.ndarray | None:
    try:
        return DATASETS[block.dataset].draw(game, class_name, rng, block.clip_format)
    except EpisodeOver:
        game.start(block.map_name, _random_seed(rng))
        return None


def _write(path: Path, frames: np.ndarray, block: Block) -> None:
    if DATASETS[block.dataset].kind == "image":
        write_image(path, frames[0])
    else:
        write_video(path, frames, block.clip_format)


def _random_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
