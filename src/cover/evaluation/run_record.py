"""What a run folder says about itself, read back for comparison and report."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cover.config.recipe import Recipe
from cover.core.text_files import read_text
from cover.errors import CheckpointError
from cover.evaluation.result import DatasetResult, read_result
from cover.evaluation.sample_views import FrameOrder
from cover.models.weights import CONFIG_FILE, find_checkpoint
from cover.run_folder import RECIPE_FILE, RunFolder

logger = logging.getLogger(__name__)

Parsed = TypeVar("Parsed")
MAX_METRICS_BYTES = 2**30
"""Largest metrics.jsonl that is read, of some million lines."""


@dataclass(frozen=True)
class RunRecord:
    """The readable files of one run.

    path: the run, or one of its checkpoints, as the user named it. folder: of the run.
    checkpoint: folder name of the checkpoint that the user named, otherwise of the run's best one.
    recipe: the resolved recipe; recipe_text as written.
    mixture: one mapping a dataset, the rows of the table printed at start.
    training, validation: lines of metrics.jsonl.
    results: every evaluation in RUN/evaluation, or those of the checkpoint that was named.
    """

    name: str
    path: Path
    folder: Path
    checkpoint: str
    recipe: Recipe
    recipe_text: str
    mixture: list[dict[str, Any]]
    training: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    results: list[DatasetResult]

    @property
    def policy(self) -> str:
        return self.recipe.policy

    @property
    def datasets(self) -> list[str]:
        """Names of the datasets it was trained on."""
        return list(self.recipe.datasets)

    @property
    def views(self) -> str:
        """Clips × crops by the recipe, "1x3"."""
        return f"{self.recipe.evaluation.num_clips}x{self.recipe.evaluation.num_crops}"

    def result(self, dataset: str, split: str, order: FrameOrder = "normal") -> DatasetResult | None:
        """The evaluation to show: in normal order the one of the run's checkpoint with the recipe's views.

        Where there is none, the nearest to it, and of equally near ones the newest. In other frame orders likewise the
        nearest to the one in normal order, if there is one.
        """
        like = self.result(dataset, split) if order != "normal" else None
        wanted = (like.checkpoint, like.views) if like else (self.checkpoint, self.views)

        def nearness(result: DatasetResult) -> tuple[object, ...]:
            same_samples = like is None or result.manifest_digest == like.manifest_digest
            return result.checkpoint == wanted[0], result.views == wanted[1], same_samples, result.finished

        key = (dataset, split, order)
        fitting = [result for result in self.results if (result.dataset, result.split, result.order) == key]
        return max(fitting, key=nearness, default=None)


def read_run_records(runs: Sequence[Path]) -> list[RunRecord]:
    """Read runs, or single checkpoints of theirs; two of the same name go by their whole paths.

    A run that is given twice is read once. Raises CheckpointError for a folder that is no run, or a file in it that is
    damaged.
    """
    given: dict[Path, Path] = {}
    for run in runs:
        if run.resolve() in given:
            logger.warning("%s is given more than once; it is shown once", run)
        given.setdefault(run.resolve(), run)
    names = [_name(run) for run in given]
    return [
        _load_record(run, name if names.count(name) == 1 else str(run))
        for run, name in zip(given.values(), names, strict=True)
    ]


def _name(run: Path) -> str:
    """run: absolute. "cotrain", or of a checkpoint "cotrain/step-1200"."""
    return f"{run.parent.parent.name}/{run.name}" if _is_checkpoint(run) else run.name


def _is_checkpoint(path: Path) -> bool:
    return (path / CONFIG_FILE).exists() and not RunFolder(path).is_run


def _load_record(path: Path, name: str) -> RunRecord:
    folder = path.absolute().parent.parent if _is_checkpoint(path) else path
    run = RunFolder(folder)
    if not run.is_run:
        raise CheckpointError(f"{path} holds no recipe.toml; give the folder of a run that `cover train` has written")
    checkpoint = find_checkpoint(path).name
    lines = _parsed(folder / "metrics.jsonl", _metrics_lines)
    results = [read_result(file) for file in sorted((folder / "evaluation").glob("*.json"))]
    return RunRecord(
        name=name,
        path=path,
        folder=folder,
        checkpoint=checkpoint,
        recipe=run.read_recipe(),
        recipe_text=read_text(folder / RECIPE_FILE),
        mixture=_parsed(folder / "mixture.json", _mixture_rows),
        training=[line for line in lines if "datasets" in line],
        validation=[line for line in lines if "val" in line],
        results=[result for result in results if folder == path or result.checkpoint == checkpoint],
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
