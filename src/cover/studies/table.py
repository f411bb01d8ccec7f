"""The table that a study fills: a cell for each row and column, what the paper reports, and what the runs cost."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from cover.evaluation.intervals import SeedMean, paired_difference, seed_mean
from cover.studies.planning import NotYetKnown, PlannedRun, Planner
from cover.studies.records import Record
from cover.studies.spec import PAIRS, VALIDATION, Measure, Row, Settings, Study, measure_of


@dataclass(frozen=True)
class Cell:
    """One column of a row, as fractions.

    Attributes:
        values: By seed, of the runs that have finished.
        num_seeds: How many there will be; 0 if no arm of the row trains on the column's dataset.
    """

    values: dict[int, float]
    num_seeds: int

    @property
    def mean(self) -> SeedMean | None:
        """The mean over seeds; None without values."""
        return seed_mean(self.values.values())


@dataclass(frozen=True)
class RowComparison:
    """The difference of a row to another row, as fractions.

    Attributes:
        against: The other row.
        differences: Ours, by column.
        paper: The paper's, by its columns.
    """

    against: str
    differences: dict[str, SeedMean | None]
    paper: dict[str, float]


@dataclass(frozen=True)
class TableRow:
    """A row: its cells by column, and the paper's values by its columns, as fractions."""

    name: str
    cells: dict[str, Cell]
    paper: dict[str, float]
    comparisons: tuple[RowComparison, ...]


@dataclass(frozen=True)
class ComputeCost:
    """What the runs of a table cost, including those that settings were chosen by and those that others start from.

    Attributes:
        num_runs: Runs that have ended, failed ones too.
        failed: The failed ones.
        seconds: Training time of all runs, added up.
        devices: Names of the devices.
        chosen: The chosen settings, by arm.
    """

    num_runs: int
    failed: tuple[Record, ...]
    seconds: float
    devices: tuple[str, ...]
    chosen: dict[str, Settings]


@dataclass(frozen=True)
class Table:
    """A study's rows, the seeds of its runs, and their cost."""

    title: str
    question: str
    columns: tuple[str, ...]
    paper_columns: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: tuple[TableRow, ...]
    cost: ComputeCost

    @property
    def has_intervals(self) -> bool:
        """Whether any cell has several seeds."""
        return any(len(cell.values) > 1 for row in self.rows for cell in row.cells.values())


def make_table(study: Study, records: dict[str, Record]) -> Table:
    """Fill a study's table from records, by key. Cells without records stay empty."""
    planner = Planner(study, records)
    shown = [arm for row in study.rows for arm in row.arms]
    values = {row.name: {column: _values(planner, row, column) for column in study.columns} for row in study.rows}
    return Table(
        title=study.title,
        question=study.question,
        columns=study.columns,
        paper_columns=study.paper_columns,
        seeds=tuple(sorted({seed for arm in shown for seed in study.seeds_of(arm)})),
        rows=tuple(_table_row(study, row, values) for row in study.rows),
        cost=_compute_cost(planner),
    )


def _compute_cost(planner: Planner) -> ComputeCost:
    chosen: dict[str, Settings] = {}
    for arm in planner.study.needed_arms():
        with suppress(NotYetKnown):
            chosen[arm] = planner.chosen(arm)
    records = planner.all_recorded()
    return ComputeCost(
        num_runs=len(records),
        failed=tuple(record for record in records if record.failed),
        seconds=sum(record.seconds for record in records),
        devices=tuple(dict.fromkeys(record.device for record in records if record.device)),
        chosen={arm: settings for arm, settings in chosen.items() if settings},
    )


def _table_row(study: Study, row: Row, values: Mapping[str, Mapping[str, dict[int, float]]]) -> TableRow:
    cells = {column: Cell(of_seed, _num_seeds(study, row, column)) for column, of_seed in values[row.name].items()}
    others = {other.name: other for other in study.rows}
    comparisons = tuple(_comparison(row, others[name], values) for name in row.against)
    return TableRow(row.name, cells, _fractions(row.paper), comparisons)


def _comparison(row: Row, other: Row, values: Mapping[str, Mapping[str, dict[int, float]]]) -> RowComparison:
    differences = {
        column: paired_difference(of_seed, values[other.name][column]) for column, of_seed in values[row.name].items()
    }
    paper = {column: row.paper[column] - other.paper[column] for column in row.paper if column in other.paper}
    stated = row.paper_difference if other.name == row.against[0] else {}
    return RowComparison(other.name, differences, _fractions(paper | stated))


def _fractions(percents: Mapping[str, float]) -> dict[str, float]:
    return {column: percent / 100 for column, percent in percents.items()}


def _arm_of(study: Study, row: Row, column: str) -> str | None:
    """The arm of a row that trains on a column's dataset."""
    dataset, _ = measure_of(column)
    return next((arm for arm in row.arms if dataset in study.arms[arm].datasets), None)


def _num_seeds(study: Study, row: Row, column: str) -> int:
    arm = _arm_of(study, row, column)
    return len(study.seeds_of(arm)) if arm else 0


def _values(planner: Planner, row: Row, column: str) -> dict[int, float]:
    """The values of one cell, by seed, of the runs that have a result."""
    arm = _arm_of(planner.study, row, column)
    runs = _known_finals(planner, arm) if arm else {}
    measured = {
        seed: _measured(planner.records[run.key], *measure_of(column))
        for seed, run in runs.items()
        if run.key in planner.records
    }
    return {seed: value for seed, value in measured.items() if value is not None}


def _measured(record: Record, dataset: str, measure: Measure) -> float | None:
    if measure == VALIDATION:
        return record.val.get(dataset)
    scores = record.test.get(dataset, {})
    return scores.get("normal", {}).get(PAIRS) if measure == PAIRS else scores.get(measure, {}).get("top1")


def _known_finals(planner: Planner, arm: str) -> dict[int, PlannedRun]:
    """An arm's runs by seed; none before its settings, and those of the arms it depends on, are chosen."""
    try:
        return planner.finals(arm)
    except NotYetKnown:
        return {}
