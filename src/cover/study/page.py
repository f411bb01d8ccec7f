"""A study's place in a Markdown page, between `<!-- study NAME -->` and `<!-- end -->`: its table and its figure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from cover.errors import CoverError
from cover.study.figure import write_figure
from cover.study.printed import to_markdown
from cover.study.records import Record
from cover.study.spec import Study
from cover.study.table import make_table
from cover.whole_files import whole_file, write_whole


def write_report(study: Study, name: str, records: Mapping[str, Record], page: Path) -> None:
    """Fill in the study's place in the page, and write its figure, study/NAME.svg beside the page.

    Raises CoverError for a page that has no place for it, and where a file cannot be written.
    """
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    start, end = f"<!-- study {name} -->\n", "<!-- end -->"
    place = re.search(f"(?<={re.escape(start)})(?:(?!<!-- study ).)*?(?={end})", text, re.DOTALL)
    if not place:
        raise CoverError(f"{page} has no place for study {name!r}; put the lines {start.strip()} and {end} there")

    table = make_table(study, records)
    with whole_file(page.parent / "study" / f"{name}.svg") as unfinished:
        write_figure(table, unfinished)
    shown = f"**{study.title}.** {study.question}\n\n{to_markdown(table)}\n![{study.title}](study/{name}.svg)\n"
    write_whole(page, f"{text[: place.start()]}\n{shown}\n{text[place.end() :]}")
