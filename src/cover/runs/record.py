"""What a run folder says about itself: for comparisons and reports, and for `cover info`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from cover.core.run_files import CONFIG_FILE, find_checkpoint
from cover.core.text_files import read_text
from cover.errors import CheckpointError, RecipeError
from cover.evaluation.result import read_result
from cover.evaluation.run_record import RunRecord
from cover.models.info import Info
from cover.models.info import describe as describe_weights
from cover.runs.folder import RunFolder

logger = logging.getLogger(__name__)

Parsed = TypeVar("Parsed")
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


def describe(path: str | Path) -> Info:
    """Look into weights, and into the run that they are a checkpoint of.

    Args:
        path: A file, folder or run of any format that `open_source` knows.

    Raises:
        CheckpointError: It is damaged or unknown.
    """
    info = describe_weights(path)
    weights = Path(info.path).resolve()
    checkpoint = weights if weights.is_dir() else weights.parent
    run = RunFolder.of_checkpoint(checkpoint)
    if not run.has_checkpoint(checkpoint) or not run.is_run:
        return info
    try:
        recipe = run.read_recipe()
    except RecipeError:  # of another version of cover; the weights can be read all the same
        return replace(info, sampling=f"its {run.recipe_file.name} is of another version")
    start = f"started from {recipe.init}" if recipe.init else "started at random"
    moments = "a random moment" if recipe.data.temporal_jitter else "the middle"
    views = recipe.evaluation
    return replace(
        info,
        origin=f"cover, policy {recipe.policy} on {', '.join(recipe.datasets)}, {checkpoint.name}, {start}",
        sampling=f"{moments} of equal segments of a clip; evaluated on {views.num_clips} × {views.num_crops} views",
    )


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
            raise ValueError(f"line {number} is neither of training nor of a validation")
    return lines


def _is_metrics(line: object) -> bool:
    match line:
        case {"step": int(), "epoch": int() | float(), "seconds": int() | float(), "datasets": dict() as rows}:
            return all(isinstance(row, dict) and isinstance(row.get("loss", 0), int | float) for row in rows.values())
        case {"step": int(), "epoch": int() | float(), "val": dict() as rows}:
            return all(isinstance(row, dict) and isinstance(row.get("top1"), int | float) for row in rows.values())
    return False


def _mixture_rows(text: str) -> list[dict[str, Any]]:
    rows = json.loads(text)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it is not a list of datasets")
    return rows
