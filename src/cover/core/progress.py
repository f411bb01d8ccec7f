"""Terminal output: lines and tables that show names as they are, and progress bars."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from cover.core.verbosity import Verbosity, verbosity
from cover.errors import escaped

Item = TypeVar("Item")
FILE_WIDTH = 100
"""The width, in columns, of output to a file or a pipe."""
MIN_WIDTH = 40
"""The width, in columns, below which a table is unreadable. A narrower terminal wraps the lines."""


class Terminal(Console):
    """A rich console that prints names such as "[something]" or ":smile:" unchanged and adds no colours by itself.

    Every string stays on one line, also in a table: control characters are escaped.

    Args:
        file: Where to print; standard output by default.
        stderr: Print to the error stream instead.
        width: In columns; by default that of the terminal, and 100 for a file or a pipe.
    """

    def __init__(self, file: IO[str] | None = None, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(file=file, stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
        if width is None:
            self.width = max(self.width, MIN_WIDTH) if self.is_terminal else FILE_WIDTH

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape control characters. Rich calls this for every string that it prints."""
        return super().render_str(escaped(text), **options)

    def on_broken_pipe(self) -> None:
        """Let the command line handle it; rich would exit with a code that has another meaning here."""
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
    """Return a progress bar for a terminal of 100 columns, with room for a description of up to 44 characters.

    With `--quiet` it is never shown.

    Args:
        unit: What is counted, for example "clips".
        console: Where to show the bar. By default the error stream, and only if that is a terminal.
        visible: Whether to show the bar at all.
        transient: Remove the bar when it ends.
    """
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
    visible = visible and verbosity() is not Verbosity.QUIET
    # Rich shows other output above the bar. If output goes to a file or a pipe, it must stay there.
    redirect_stdout = sys.stdout.isatty()
    return Progress(
        *columns, console=console, disable=not visible, transient=transient, redirect_stdout=redirect_stdout
    )


def track(
    items: Iterable[Item], description: str, total: int | None = None, *, unit: str = "files", visible: bool = True
) -> Iterator[Item]:
    """Yield `items` behind a progress bar that disappears at the end.

    Args:
        items: What to iterate over.
        description: Stands before the bar.
        total: The number of items, if `items` has no length.
        unit: What is counted.
        visible: Whether to show the bar at all.
    """
    with progress_bar(unit, visible=visible, transient=True) as progress:
        yield from progress.track(items, total=total, description=description)
