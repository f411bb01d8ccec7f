"""Runs side by side: what their folders say, and the page that compares them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from cover.core.atomic_files import write_whole
from cover.core.run_files import CONFIG_FILE, find_checkpoint
from cover.core.text_files import read_text
from cover.datasets.manifest import Moves
from cover.errors import CheckpointError
from cover.evaluation.comparison import compare
from cover.evaluation.result import read_result
from cover.evaluation.run_pair import RunPair
from cover.evaluation.run_record import RunRecord
from cover.reports.cards import Strip, frames_of, sample_strips
from cover.reports.comparison_json import comparison_json
from cover.reports.terminal_tables import print_comparison
from cover.runs.folder import RunFolder
from cover.runs.trained import TrainedRun

logger = logging.getLogger(__name__)

Parsed = TypeVar("Parsed")
NUM_STRIPS = 3
"""Sample clips per dataset in a comparison."""
MAX_METRICS_BYTES = 2**30
"""Largest file of metrics that is read, of some million lines."""


def read_run_records(runs: Sequence[Path]) -> list[RunRecord]:
    """Read runs, or single checkpoints of theirs.

    A run that is given twice is read once. Runs of the same name go by their whole paths.

    Raises:
        CheckpointError: A folder is no run, or a file in it is damaged.
    """
    given: dict[Path, Path] = {}
    for run in runs:
        if run.resolve() in given:
            logger.warning("%s is given more than once; it is shown once", run)
        given.setdefault(run.resolve(), run)
    names = [_name(run) for run in given]
    return [
        _read_run(run, name if names.count(name) == 1 else str(run))
        for run, name in zip(given.values(), names, strict=True)
    ]


def compare_runs(
    runs: Sequence[Path],
    out: Path,
    console: Console,
    *,
    stages: Mapping[str, float] | None = None,
    json_out: Path | None = None,
    moves: Moves | None = None,
    allow_changed_data: bool = False,
) -> None:
    """Write the page that compares runs, with clips of their splits, and print its tables.

    Args:
        runs: Runs, or single checkpoints of theirs.
        out: The page.
        console: Where the tables are printed.
        stages: Wall time in seconds of what led here, by name.
        json_out: Where to write the same as JSON.
        moves, allow_changed_data: As in `TrainedRun.open`.
    """
    from cover.reports.html_report import write_report  # loads matplotlib, which nothing else here needs

    comparison = compare(read_run_records(runs))
    if not comparison.policy_rows:
        which = "none of these runs has" if len(comparison.records) > 1 else f"{runs[0]} has no"
        commands = ", ".join(f"`cover evaluate {record.path}`" for record in comparison.records)
        raise CheckpointError(f"{which} results in normal frame order; evaluate with {commands}")
    strips: dict[str, list[Strip]] = {}
    frames: dict[str, dict[str, NDArray[np.uint8]]] = {row.dataset: {} for row in comparison.policy_rows}
    for record in comparison.records:
        run = TrainedRun.open(record.path, moves=moves, allow_changed_data=allow_changed_data)
        strips[record.name] = sample_clips(run, {row.dataset: row.split for row in comparison.policy_rows})
        for pair in comparison.pairs_with(record.name):
            frames[pair.dataset] |= example_frames(run, pair)
    write_report(comparison, out, strips=strips, frames=frames, stages=stages)
    if json_out:
        write_whole(json_out, comparison_json(comparison))
    print_comparison(comparison, console)


def sample_clips(run: TrainedRun, splits: Mapping[str, str]) -> list[Strip]:
    """A few clips of the split of each dataset, if the run has it, with what the model answers."""
    return [
        strip
        for name, split in splits.items()
        if name in run.recipe.with_heads and split in run.splits(name)
        for strip in sample_strips(
            run.predict_datasets,
            run.reader(name, run.manifest(name, split)),
            name,
            NUM_STRIPS,
            seed=0,
            is_sigmoid=name in run.model.config.sigmoid_heads,
        )
    ]


def example_frames(run: TrainedRun, pair: RunPair) -> dict[str, NDArray[np.uint8]]:
    """Frames uint8 [T,Y,X,3], by sample id, of examples that a run and another one disagree on.

    The run may lack the split: `cover evaluate --manifest` takes any. Then there are none.
    """
    if pair.split not in run.splits(pair.dataset):
        return {}
    wanted = {sample.sample_id for sample in (*pair.helped_examples, *pair.hurt_examples)}
    return frames_of(run.reader(pair.dataset, run.manifest(pair.dataset, pair.split)), wanted)


def _name(run: Path) -> str:
    """run: absolute. "cotrain", or of a checkpoint "cotrain/step-1200"."""
    return f"{RunFolder.of_checkpoint(run).path.name}/{run.name}" if _is_checkpoint(run) else run.name


def _is_checkpoint(path: Path) -> bool:
    return (path / CONFIG_FILE).exists() and not RunFolder(path).is_run


def _read_run(path: Path, name: str) -> RunRecord:
    run = RunFolder.of_checkpoint(path.absolute()) if _is_checkpoint(path) else RunFolder(path)
    if not run.is_run:
        raise CheckpointError(
            f"{path} holds no {run.recipe_file.name}; give the folder of a run that `cover train` has written"
        )
    checkpoint = find_checkpoint(path).name
    lines = _parsed(run.metrics_file, _metrics_lines)
    results = [read_result(file) for file in sorted(run.results_folder.glob("*.json"))]
    return RunRecord(
        name=name,
        path=path,
        folder=run.path,
        checkpoint=checkpoint,
        recipe=run.read_recipe(),
        recipe_text=read_text(run.recipe_file),
        mixture=_parsed(run.mixture_file, _mixture_rows),
        training=[line for line in lines if "datasets" in line],
        validation=[line for line in lines if "val" in line],
        gradients=[line for line in lines if "gradients" in line],
        own_digests=run.digests(),
        results=[result for result in results if run.path == path or result.checkpoint == checkpoint],
    )


def _parsed(file: Path, parse: Callable[[str], list[Parsed]]) -> list[Parsed]:
    """What a file holds; nothing, if it is not there."""
    if not file.exists():
        return []
    try:
        return parse(read_text(file, max_bytes=MAX_METRICS_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is damaged ({error}); restore it, or leave out the run") from error


def _metrics_lines(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines()]
    for number, line in enumerate(lines, start=1):
        if not _is_metrics(line):
            raise ValueError(f"line {number} is neither of training nor of a validation or measurement")
    return lines


def _is_metrics(line: object) -> bool:
    match line:
        case {"step": int(), "epoch": int() | float(), "seconds": int() | float(), "datasets": dict() as rows}:
            return all(isinstance(row, dict) and isinstance(row.get("loss", 0), int | float) for row in rows.values())
        case {
            "step": int(),
            "epoch": int() | float(),
            "gradients": {"norm": dict(), "share": dict(), "cosine": dict()},
        }:
            return True
        case {"step": int(), "epoch": int() | float(), "val": dict() as rows}:
            return all(isinstance(row, dict) and isinstance(row.get("top1"), int | float) for row in rows.values())
    return False


def _mixture_rows(text: str) -> list[dict[str, Any]]:
    rows = json.loads(text)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it is not a list of datasets")
    return rows
