"""A study's place in a Markdown page, between `<!-- study NAME -->` and `<!-- end -->`: its table and its figure.

The figure has a panel for each column, in which every row is a point with its interval.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cover.core.atomic_files import whole_file, write_whole
from cover.core.drawing import CHANCE_COLOR, COLORS, STYLE, drawing
from cover.errors import CoverError
from cover.studies.table import Table
from cover.studies.table_text import to_markdown

WIDTH_INCHES = 9.4
MAX_NAME_CHARACTERS = 28
"""Longer row names are wrapped."""
SEEDS_BELOW = 0.25
"""How far below a row its single seeds are drawn, clear of the interval; rows are 1 apart."""


def check_places(page: Path, names: Sequence[str]) -> None:
    """Check that a page has a place for each study.

    Raises:
        CoverError: A place is missing; the message says which lines to add.
    """
    for name in names:
        _place(page, name)


def fill_in(table: Table, name: str, page: Path) -> None:
    """Write a study's table into its place in the page, and its figure into study/NAME.svg beside the page.

    Raises:
        CoverError: The page has no place for the study, or a file cannot be written.
    """
    text, place = _place(page, name)
    with whole_file(page.parent / "study" / f"{name}.svg") as unfinished:
        write_figure(table, unfinished)
    shown = f"**{table.title}.** {table.question}\n\n{to_markdown(table)}\n![{table.title}](study/{name}.svg)\n"
    write_whole(page, f"{text[: place.start()]}\n{shown}\n{text[place.end() :]}")


def _place(page: Path, name: str) -> tuple[str, re.Match[str]]:
    """The page's text, and the place in it for the study's table and figure."""
    start, end = f"<!-- study {name} -->\n", "<!-- end -->"
    marks = f"add the lines {start.strip()} and {end}"
    if not page.is_file():
        raise CoverError(f"{page} does not exist; create it, and {marks}")
    text = page.read_text(encoding="utf-8")
    place = re.search(f"(?<={re.escape(start)})(?:(?!<!-- study ).)*?(?={end})", text, re.DOTALL)
    if not place:
        raise CoverError(f"{page} has no place for study {name!r}; {marks}")
    return text, place


def write_figure(table: Table, path: Path) -> None:
    """Write the figure as SVG. The same table gives the same bytes."""
    with drawing(STYLE):
        study_figure(table).savefig(path, format="svg", metadata={"Date": None})


def study_figure(table: Table) -> Figure:
    """Draw means with their 95 % intervals, and single seeds as small dots.

    A dashed line leads from a row to the rows that are compared with it. Each panel has its own scale.
    """
    names = [fill(row.name, MAX_NAME_CHARACTERS) for row in table.rows]
    num_lines = sum(1 + name.count("\n") for name in names)
    height_inches = 0.9 + 0.16 * (len(names) + num_lines)
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(table.columns), sharey=True, squeeze=False)[0]
    for column, axes in zip(table.columns, panels, strict=True):
        _draw_rows(axes, table, column)
        _draw_comparisons(axes, table, column)
        axes.set_title(column)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.margins(x=0.12)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel(
        "accuracy (%): mean and 95 % interval over seeds; small: single seeds; dashed: what a row is compared with",
        fontsize=8,
        color=CHANCE_COLOR,
    )
    return figure


def _draw_rows(axes: Axes, table: Table, column: str) -> None:
    for height, row in enumerate(table.rows):
        cell, color = row.cells[column], COLORS[0] if row.comparisons else COLORS[1]
        seeds = [100 * value for value in cell.values.values()]
        axes.plot(seeds, [height + SEEDS_BELOW] * len(seeds), "o", color=color, ms=3.5, alpha=0.35, mew=0)
        if mean := cell.mean:
            half_width = 100 * (mean.half_width or 0)
            axes.errorbar(100 * mean.value, height, xerr=half_width, fmt="o", color=color, ms=5.5, lw=1.6)


def _draw_comparisons(axes: Axes, table: Table, column: str) -> None:
    heights = {row.name: height for height, row in enumerate(table.rows)}
    for row in table.rows:
        for start in (heights[comparison.against] for comparison in row.comparisons):
            if mean := table.rows[start].cells[column].mean:
                ends = [start, heights[row.name]]
                axes.plot([100 * mean.value] * 2, ends, color=CHANCE_COLOR, lw=1, ls=(0, (3, 3)), zorder=0.9)
