"""What the terminal shows: lines and tables with names as they are, and progress bars of long work."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from cover.errors import escaped

Item = TypeVar("Item")
FILE_WIDTH = 100
"""Columns of what is printed into a file or a pipe."""
MIN_WIDTH = 40
"""Columns below which a table is no longer readable: a narrower terminal wraps its lines."""


class Terminal(Console):
    """A rich console that shows a name such as "[something]" or ":smile:" as it is, and colours nothing by itself.

    Every string is one line, also in a table: control characters, which a name may hold, are escaped.

    Args:
        file: Where to print; the standard output by default.
        stderr: Print to the error stream instead.
        width: In columns; that of the terminal by default, and 100 in a file or a pipe.
    """

    def __init__(self, file: IO[str] | None = None, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(file=file, stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
        if width is None:
            self.width = max(self.width, MIN_WIDTH) if self.is_terminal else FILE_WIDTH

    def render_str(self, text: str, **options: Any) -> Text:
        """Rich calls it for every string that it prints."""
        return super().render_str(escaped(text), **options)

    def on_broken_pipe(self) -> None:
        """Leave it to the command line; rich would exit with a code that means something else here."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text("")
        return Text(f"{task.speed:,.{0 if task.speed > 10 else 1}f} {self.unit}/s")


def progress_bar(
    unit: str, console: Console | None = None, *, visible: bool = True, transient: bool = False
) -> Progress:
    """A bar that fits 100 columns beside a description of up to 44; on the error stream unless a console is given,
    and then only on a terminal. unit: what is counted, e.g. "clips"."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    if console is None:
        console = Terminal(stderr=True)
        visible = visible and console.is_terminal
    # What is printed meanwhile appears above the bar, but rich would send it there from a file or a pipe, too.
    redirect_stdout = sys.stdout.isatty()
    return Progress(
        *columns, console=console, disable=not visible, transient=transient, redirect_stdout=redirect_stdout
    )


def track(items: Iterable[Item], description: str, total: int | None = None, *, unit: str = "files") -> Iterator[Item]:
    """`items` one by one behind a progress bar, which vanishes when done."""
    with progress_bar(unit, transient=True) as progress:
        yield from progress.track(items, total=total, description=description)
