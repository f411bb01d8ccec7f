"""The table that a study fills: a cell a row and column, beside what the paper reports, and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cover.evaluation.intervals import SeedMean, paired_difference, seed_mean
from cover.studies.compute_cost import Effort, effort_of
from cover.studies.planning import NotYetKnown, PlannedRun, Planner
from cover.studies.records import Record
from cover.studies.spec import PAIRS, VALIDATION, Measure, Row, Study, measure_of


@dataclass(frozen=True)
class Cell:
    """One column of a row, as fractions.

    values: by seed. num_seeds: how many there are to be, 0 where no arm of the row trains on the column's dataset.
    """

    values: dict[int, float]
    num_seeds: int

    @property
    def mean(self) -> SeedMean | None:
        return seed_mean(self.values.values())


@dataclass(frozen=True)
class Comparison:
    """How far a row is from the row `against`, as fractions: here by column, in the paper by its columns."""

    against: str
    differences: dict[str, SeedMean | None]
    paper: dict[str, float]


@dataclass(frozen=True)
class TableRow:
    """cells: by column. paper: fractions, by the paper's columns."""

    name: str
    cells: dict[str, Cell]
    paper: dict[str, float]
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Table:
    """A study's rows. seeds: of its runs."""

    title: str
    question: str
    columns: tuple[str, ...]
    paper_columns: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: tuple[TableRow, ...]
    effort: Effort

    @property
    def has_intervals(self) -> bool:
        return any(len(cell.values) > 1 for row in self.rows for cell in row.cells.values())


def make_table(study: Study, records: dict[str, Record]) -> Table:
    """The table as far as the records fill it."""
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
        effort=effort_of(planner),
    )


def _table_row(study: Study, row: Row, values: Mapping[str, Mapping[str, dict[int, float]]]) -> TableRow:
    cells = {column: Cell(of_seed, _num_seeds(study, row, column)) for column, of_seed in values[row.name].items()}
    others = {other.name: other for other in study.rows}
    comparisons = tuple(_comparison(row, others[name], values) for name in row.against)
    return TableRow(row.name, cells, _fractions(row.paper), comparisons)


def _comparison(row: Row, other: Row, values: Mapping[str, Mapping[str, dict[int, float]]]) -> Comparison:
    differences = {
        column: paired_difference(of_seed, values[other.name][column]) for column, of_seed in values[row.name].items()
    }
    paper = {column: row.paper[column] - other.paper[column] for column in row.paper if column in other.paper}
    told = row.paper_difference if other.name == row.against[0] else {}
    return Comparison(other.name, differences, _fractions(paper | told))


def _fractions(percents: Mapping[str, float]) -> dict[str, float]:
    return {column: percent / 100 for column, percent in percents.items()}


def _arm_of(study: Study, row: Row, column: str) -> str | None:
    """The row's arm that trains on the column's dataset."""
    dataset, _ = measure_of(column)
    return next((arm for arm in row.arms if dataset in study.arms[arm].datasets), None)


def _num_seeds(study: Study, row: Row, column: str) -> int:
    arm = _arm_of(study, row, column)
    return len(study.seeds_of(arm)) if arm else 0


def _values(planner: Planner, row: Row, column: str) -> dict[int, float]:
    """By seed, of the runs that have a result."""
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
    """By seed; none while the arm's settings, or those of one that it builds on, are not chosen yet."""
    try:
        return planner.finals(arm)
    except NotYetKnown:
        return {}
