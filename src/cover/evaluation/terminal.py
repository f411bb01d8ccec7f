"""Evaluations and comparisons as tables for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cover.evaluation.comparison import Comparison, OrderRow
from cover.evaluation.formats import percent, percent_range, points
from cover.evaluation.intervals import Estimate
from cover.evaluation.orders import FRAME_ORDERS
from cover.evaluation.result import DatasetResult

NONE = "–"


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the policy table, and the tables of frame orders where clips were evaluated in several."""
    if comparison.policy_rows:
        console.print(policy_table(comparison))
    if comparison.order_rows:
        console.print(order_table(comparison.order_rows))
    if pair_rows := [row for row in comparison.order_rows if row.normal.num_pair_samples]:
        console.print(pair_table(pair_rows))


def results_table(results: Iterable[DatasetResult]) -> Table:
    """What one run's evaluation measured, a row a dataset and frame order."""
    numbers = ("samples", "failed", "chance", "top-1", "95 %", "top-5", "pair")
    title = "Accuracy in % (pair: chance 50); failed: could not be decoded"
    table = _table(title, ("dataset", "split", "order", "views"), numbers)
    for result in results:
        table.add_row(
            result.dataset,
            result.split,
            result.order,
            result.views,
            str(result.num_samples),
            str(result.num_unreadable),
            percent(result.chance),
            percent(result.top1),
            percent_range(result.top1_estimate),
            _percent(result.top5),
            _percent(result.pair_accuracy),
        )
    return table


def policy_table(comparison: Comparison) -> Table:
    """Top-1 per dataset under the standard policy and every other run, with the differences."""
    run_headings = [heading for run in comparison.other_runs for heading in (run, "Δ")]
    table = _table(
        "Training policies: top-1 in % and its 95 % interval, Δ in points",
        ("dataset", "split"),
        ("samples", "chance", "standard", *run_headings),
    )
    for row in comparison.policy_rows:
        results = row.by_run.values()
        cells: list[str | Text] = [row.dataset, _distinct(result.split for result in results)]
        cells += [_distinct(str(result.num_samples) for result in results)]
        cells += [_distinct(percent(result.chance) for result in results), _top1(row.standard)]
        for run in comparison.other_runs:
            cells += [_top1(row.others.get(run)), _points(row.delta(run))]
        table.add_row(*cells)
    return table


def order_table(rows: Sequence[OrderRow]) -> Table:
    """Top-1 of every run in every frame order."""
    table = _table(
        "Frame order: top-1 in %, Δ = reversed − normal in points",
        ("dataset", "run"),
        ("samples", "chance", *FRAME_ORDERS, "Δ"),
    )
    for row in rows:
        accuracies = [_percent(row.results[order].top1 if order in row.results else None) for order in FRAME_ORDERS]
        counts = (str(row.normal.num_samples), percent(row.normal.chance))
        table.add_row(row.dataset, row.run, *counts, *accuracies, _points(row.delta))
    return table


def pair_table(rows: Sequence[OrderRow]) -> Table:
    """Pair accuracy of every run in every frame order."""
    table = _table(
        "Pair accuracy in %: own class against that class played backwards",
        ("dataset", "run"),
        ("samples", "chance", *FRAME_ORDERS),
    )
    for row in rows:
        accuracies = [
            _percent(row.results[order].pair_accuracy if order in row.results else None) for order in FRAME_ORDERS
        ]
        table.add_row(row.dataset, row.run, str(row.normal.num_pair_samples), percent(0.5), *accuracies)
    return table


def _table(title: str, text_headings: Sequence[str], number_headings: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in text_headings:
        table.add_column(heading, overflow="fold")
    for heading in number_headings:
        table.add_column(heading, justify="right")
    return table


def _top1(result: DatasetResult | None) -> Text:
    if result is None:
        return Text(NONE)
    return Text.assemble(percent(result.top1), " ", (percent_range(result.top1_estimate), "dim"))


def _percent(fraction: float | None) -> str:
    return NONE if fraction is None else percent(fraction)


def _points(delta: Estimate | None) -> str:
    return NONE if delta is None else points(delta.value)


def _distinct(values: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(values))
