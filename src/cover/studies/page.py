"""A study's place in a Markdown page, between `<!-- study NAME -->` and `<!-- end -->`: its table and its figure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cover.core.atomic_files import whole_file, write_whole
from cover.errors import CoverError
from cover.studies.figure import write_figure
from cover.studies.table import Table
from cover.studies.table_text import to_markdown


def check_places(page: Path, names: Sequence[str]) -> None:
    """See to it that a page has a place for each of the studies. Raises CoverError."""
    for name in names:
        _place(page, name)


def write_report(table: Table, name: str, page: Path) -> None:
    """Fill in a study's place in the page with its table, and write the figure, study/NAME.svg beside the page.

    Raises CoverError for a page that has no place for it, and where a file cannot be written.
    """
    text, place = _place(page, name)
    with whole_file(page.parent / "study" / f"{name}.svg") as unfinished:
        write_figure(table, unfinished)
    shown = f"**{table.title}.** {table.question}\n\n{to_markdown(table)}\n![{table.title}](study/{name}.svg)\n"
    write_whole(page, f"{text[: place.start()]}\n{shown}\n{text[place.end() :]}")


def _place(page: Path, name: str) -> tuple[str, re.Match[str]]:
    """The page's text, and where in it the study's table and figure go."""
    start, end = f"<!-- study {name} -->\n", "<!-- end -->"
    marks = f"put the lines {start.strip()} and {end} there"
    if not page.is_file():
        raise CoverError(f"{page} does not exist; write it, and {marks}")
    text = page.read_text(encoding="utf-8")
    place = re.search(f"(?<={re.escape(start)})(?:(?!<!-- study ).)*?(?={end})", text, re.DOTALL)
    if not place:
        raise CoverError(f"{page} has no place for study {name!r}; {marks}")
    return text, place
