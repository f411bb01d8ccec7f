"""A study's table as text, in Markdown and for a terminal.

|               |     scenes | moves | paper: K400 |
| standard      | 61.0 ± 0.8 |  50.3 |        80.7 |
| co-training   | 63.4 ± 1.0 |  50.9 |        83.1 |
| Δ to standard | +2.4 ± 0.9 |  +0.6 |        +2.4 |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich import box
from rich import table as rich_table

from cover.evaluation.intervals import SeedMean
from cover.reports.terminal_tables import duration, percent, points
from cover.studies.spec import Settings
from cover.studies.table import Cell, ComputeCost, Table

NONE = "–"


def to_markdown(table: Table) -> str:
    """Write the table, and a line about its seeds, runs and chosen settings; without a heading."""
    marks = ["---", *["---:"] * (len(headings(table)) - 1)]
    rows = [headings(table), marks, *lines(table)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + f"\n\n{legend(table)}\n"


def to_terminal(table: Table) -> rich_table.Table:
    """Make the same table for a terminal, with the study's title and without the legend."""
    shown = rich_table.Table(
        title=table.title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    first, *numbers = headings(table)
    shown.add_column(first, overflow="fold")
    for heading in numbers:
        shown.add_column(heading, justify="right")
    for line in lines(table):
        shown.add_row(*line)
    return shown


def headings(table: Table) -> list[str]:
    """The headings of our columns, then of the paper's."""
    return ["", *table.columns, *(f"paper: {column}" for column in table.paper_columns)]


def lines(table: Table) -> list[list[str]]:
    """A line for each row, and below it one for its difference to each row that it is compared with."""
    shown: list[list[str]] = []
    for row in table.rows:
        shown.append([row.name, *map(_cell, row.cells.values()), *_paper(table, row.paper, percent)])
        for comparison in row.comparisons:
            differences = [_with_interval(difference, points) for difference in comparison.differences.values()]
            shown.append([f"Δ to {comparison.against}", *differences, *_paper(table, comparison.paper, points)])
    return shown


def legend(table: Table) -> str:
    """Explain what the numbers are, and what they cost."""
    seeds = f"seed{'s' * (len(table.seeds) > 1)} {', '.join(map(str, table.seeds))}"
    mean = "mean ± half the 95 % interval (Student's t) over " if table.has_intervals else ""
    paired = "; Δ is paired by seed" if any(row.comparisons for row in table.rows) else ""
    return " ".join([f"In %: {mean}{seeds}{paired}.", *_cost(table.cost)])


def _cost(cost: ComputeCost) -> list[str]:
    failed = "; ".join(
        f"{record.arm}, {', '.join([f'seed {record.seed}', *_settings(record.settings)])}: {record.failed}"
        for record in cost.failed
    )
    runs = f"{cost.num_runs} run{'s' * (cost.num_runs != 1)}"
    took = f", {duration(cost.seconds)} of training in total on {' and '.join(cost.devices)}"
    shown = [f"{runs}{took}." if cost.devices else f"{runs}."]
    if failed:
        shown.append(f"Failed, {len(cost.failed)}: {failed}.")
    if cost.chosen:
        shown.append(f"Chosen by validation: {_chosen(cost.chosen)}.")
    return shown


def _chosen(chosen: Mapping[str, Settings]) -> str:
    """ "learning_rate 0.03 (scenes, all); learning_rate 0.1 (moves)"."""
    arms: dict[str, list[str]] = {}
    for arm, settings in chosen.items():
        arms.setdefault(", ".join(_settings(settings)), []).append(arm)
    return "; ".join(f"{settings} ({', '.join(names)})" for settings, names in arms.items())


def _settings(settings: Settings) -> list[str]:
    return [f"{key.rpartition('.')[2]} {value:g}" for key, value in settings.items()]


def _cell(cell: Cell) -> str:
    """ "61.0 ± 0.8", "61.0 (1 of 3 seeds)" while some are missing."""
    if len(cell.values) == cell.num_seeds:
        return _with_interval(cell.mean, percent)
    missing = f"({len(cell.values)} of {cell.num_seeds} seeds)"
    return f"{_with_interval(cell.mean, percent)} {missing}"


def _with_interval(mean: SeedMean | None, written: Callable[[float], str]) -> str:
    if mean is None:
        return NONE
    return written(mean.value) + ("" if mean.half_width is None else f" ± {percent(mean.half_width)}")


def _paper(table: Table, values: Mapping[str, float], written: Callable[[float], str]) -> list[str]:
    return [written(values[column]).replace("-", "−") if column in values else "" for column in table.paper_columns]
