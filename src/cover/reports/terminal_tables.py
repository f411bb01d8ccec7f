"""How numbers are written, and evaluations and comparisons as tables for a terminal of 80 columns.

Names of datasets and runs are plain strings, which `Terminal` prints as they are: a bracket is not markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from cover.evaluation.comparison import Comparison, OrderRow
from cover.evaluation.intervals import Estimate
from cover.evaluation.metrics import all_right
from cover.evaluation.result import DatasetResult
from cover.evaluation.sample_views import FRAME_ORDERS, FrameOrder

NONE = "–"
MARK = "*"
"""Marks a number that a line below the tables qualifies."""


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the tables of policies and frame orders, and remarks about results that are missing or differ."""
    if comparison.policy_rows:
        console.print(policy_table(comparison))
    if comparison.order_rows:
        console.print(order_table(comparison.order_rows))
    if reversal_rows := [row for row in comparison.order_rows if row.normal.num_pair_samples]:
        console.print(reversal_table(reversal_rows))
    for difference in comparison.differences:
        console.print(f"{MARK} measured differently: {difference}", soft_wrap=True)
    for sentence in comparison.remedies:
        console.print(sentence, soft_wrap=True)


def results_table(results: Sequence[DatasetResult]) -> Table:
    """Make a table of the results of one evaluation, a row for each dataset.

    Columns that say nothing of any result are left out, so that the others fit.
    """
    columns = {
        "samples": [str(result.num_samples) for result in results],
        "failed": [str(result.num_unreadable or NONE) for result in results],
        "chance": [chance(result.chance) for result in results],
        "top-1": [percent(result.top1) for result in results],
        "95 %": [percent_range(result.top1_estimate) for result in results],
        "top-5": [_percent(result.top5) for result in results],
        "class": [_percent(result.mean_class) for result in results],
        "mAP": [_percent(result.mean_average_precision) for result in results],
        "loss": [NONE if result.loss is None else f"{result.loss:.3f}" for result in results],
        "rev.": [_percent(result.pair_accuracy) for result in results],
    }
    columns = {heading: cells for heading, cells in columns.items() if set(cells) != {NONE}}
    explained = {"failed": "not decoded", "class": "mean over classes", "rev.": "reversal accuracy, chance 50"}
    legend = [f"; {heading}: {meaning}" for heading, meaning in explained.items() if heading in columns]
    checkpoint, order, views = (
        _distinct(getattr(result, name) for result in results) for name in ("checkpoint", "order", "views")
    )
    title = f"{checkpoint}, {order} order, {views} views: accuracy in %{''.join(legend)}"
    table = _table(title, ("dataset", "split"), tuple(columns))
    for result, *cells in zip(results, *columns.values(), strict=True):
        table.add_row(result.dataset, result.split, *cells)
    return table


def all_right_lines(results: Sequence[DatasetResult]) -> list[str]:
    """Say how often all heads on the same samples are right, such as verb and noun: an action of EPIC-Kitchens."""
    by_samples: dict[tuple[str, ...], list[DatasetResult]] = {}
    for result in results:
        if result.predictions:
            by_samples.setdefault(result.predictions.sample_ids, []).append(result)
    lines = []
    for own in by_samples.values():
        if len(own) > 1:
            names, both = " and ".join(result.dataset for result in own), all_right(own)
            lines.append(f"{names} right at once: {percent(both.value)} % of samples (95 %: {percent_range(both)})")
    return lines


def policy_table(comparison: Comparison) -> Table:
    """Make a table of top-1 by dataset and run: those with a result, then those without one."""
    table = _table(
        "Top-1 in % with 95 % interval; Δ in points to the first run",
        ("dataset", "split", "run"),
        ("samples", "chance", "top-1", "95 %", "Δ"),
    )
    for row in comparison.policy_rows:
        place = (row.dataset, row.split)
        for run, result in row.by_run.items():
            mark = MARK if row.is_marked(run) else ""
            counts = (str(result.num_samples), chance(result.chance))
            top1 = (f"{percent(result.top1)}{mark}", percent_range(result.top1_estimate))
            table.add_row(*place, run, *counts, *top1, "" if run == row.reference else _points(row.delta(run)))
            place = ("", "")
        for run in row.without:
            table.add_row(*place, run, *[NONE] * 4, "")
    return table


def order_table(rows: Sequence[OrderRow]) -> Table:
    """Make a table of the top-1 of every run in every frame order."""
    table = _table(
        "Frame order: top-1 in %, Δ = reversed − normal in points",
        ("dataset", "run"),
        (*FRAME_ORDERS, "Δ"),
    )
    for row in rows:
        accuracies = {order: _percent(result.top1) for order, result in row.results.items()}
        table.add_row(row.dataset, row.run, *_by_order(row, accuracies), _points(row.delta))
    return table


def reversal_table(rows: Sequence[OrderRow]) -> Table:
    """Make a table of the reversal accuracy of every run in every frame order."""
    table = _table(
        "Reversal accuracy in % (chance 50): a class against its reversal",
        ("dataset", "run"),
        ("samples", *FRAME_ORDERS),
    )
    for row in rows:
        accuracies = {order: _percent(result.pair_accuracy) for order, result in row.results.items()}
        table.add_row(row.dataset, row.run, str(row.normal.num_pair_samples), *_by_order(row, accuracies))
    return table


def _table(title: str, text_headings: Sequence[str], number_headings: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in text_headings:
        table.add_column(heading, overflow="fold")
    for heading in number_headings:
        table.add_column(heading, justify="right", no_wrap=True)  # text folds first
    return table


def _by_order(row: OrderRow, cells: Mapping[FrameOrder, str]) -> list[str]:
    """The cells in the order of the columns; those with a difference are marked."""
    marked = {order: f"{cell}{MARK if row.is_marked(order) else ''}" for order, cell in cells.items()}
    return [marked.get(order, NONE) for order in FRAME_ORDERS]


def _percent(fraction: float | None) -> str:
    return NONE if fraction is None else percent(fraction)


def _points(delta: Estimate | None) -> str:
    return NONE if delta is None else points(delta.value)


def _distinct(values: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(values))


def percent(fraction: float) -> str:
    """Write a fraction in percent: 0.6243 → "62.4"."""
    return f"{100 * fraction:.1f}"


def chance(fraction: float) -> str:
    """Write a chance in percent; a small one to one digit, so that it is never 0: 1 / 21841 → "0.005"."""
    return percent(fraction) if fraction >= 0.0005 else f"{100 * fraction:.1g}"


def percent_range(estimate: Estimate) -> str:
    """Write a 95 % interval in percent: "59.3–65.4"."""
    return f"{percent(estimate.lower)}–{percent(estimate.upper)}"


def points(fraction: float) -> str:
    """Write a difference in percentage points with its sign: 0.023 → "+2.3", -0.362 → "−36.2", 0 → "0.0"."""
    text = f"{100 * fraction:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def points_range(estimate: Estimate) -> str:
    """Write the 95 % interval of a difference: "−0.4 to +5.0"."""
    return f"{points(estimate.lower)} to {points(estimate.upper)}"


def count(number: float) -> str:
    """Write a whole number in full, 1281167 → "1,281,167"; any other to three digits, 0.03125 → "0.0312"."""
    return f"{number:,.0f}" if number == round(number) or abs(number) >= 1000 else f"{number:.3g}"


def duration(seconds: float) -> str:
    """Write a duration: 7.25 → "7.2 s", 190 → "3 min 10 s", 7500 → "2 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
