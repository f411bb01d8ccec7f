"""What a run folder says about itself, read back for comparison and report."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cover.errors import CheckpointError
from cover.evaluation.orders import FrameOrder
from cover.evaluation.result import DatasetResult

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class RunRecord:
    """The readable files of one run.

    recipe: the resolved recipe as plain data; recipe_text as written.
    mixture: one mapping a dataset, the rows of the table printed at start.
    training, validation: lines of metrics.jsonl.
    results: every evaluation in RUN/evaluation.
    """

    name: str
    folder: Path
    recipe: dict[str, Any]
    recipe_text: str
    mixture: list[dict[str, Any]]
    training: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    results: list[DatasetResult]

    @property
    def policy(self) -> str:
        return str(self.recipe["policy"])

    @property
    def datasets(self) -> list[str]:
        """Names of the datasets it was trained on."""
        return list(self.recipe["datasets"])

    def result(self, dataset: str, split: str, order: FrameOrder = "normal") -> DatasetResult | None:
        """The evaluation on that split in that frame order, if there is one."""
        wanted = (dataset, split, order)
        return next((result for result in self.results if (result.dataset, result.split, result.order) == wanted), None)


def load_records(runs: Sequence[Path]) -> list[RunRecord]:
    """Read run folders; two with the same folder name go by their whole paths.

    Raises CheckpointError for a folder that is no run, or a file in it that is damaged.
    """
    folder_names = [run.resolve().name for run in runs]
    return [
        _load_record(run, name if folder_names.count(name) == 1 else str(run))
        for run, name in zip(runs, folder_names, strict=True)
    ]


def _load_record(run: Path, name: str) -> RunRecord:
    recipe_file = run / "recipe.toml"
    if not recipe_file.is_file():
        raise CheckpointError(f"{run} holds no recipe.toml; give the folder of a run that `cover train` has written")
    lines = _read_lines(run / "metrics.jsonl")
    return RunRecord(
        name=name,
        folder=run,
        recipe=_parsed(recipe_file, tomllib.loads),
        recipe_text=recipe_file.read_text(encoding="utf-8"),
        mixture=_read_json(run / "mixture.json"),
        training=[line for line in lines if "datasets" in line],
        validation=[line for line in lines if "val" in line],
        results=[_parsed(file, DatasetResult.from_json) for file in sorted((run / "evaluation").glob("*.json"))],
    )


def _read_json(file: Path) -> Any:
    return _parsed(file, json.loads) if file.is_file() else []


def _read_lines(file: Path) -> list[dict[str, Any]]:
    return _parsed(file, lambda text: [json.loads(line) for line in text.splitlines()]) if file.is_file() else []


def _parsed(file: Path, parse: Callable[[str], Parsed]) -> Parsed:
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} is damaged ({error}); restore it, or leave out the run") from error
