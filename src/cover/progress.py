"""Progress bars of long work: what is done, how fast, how long still."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Item = TypeVar("Item")


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
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    if console is None:
        console = Console(stderr=True)
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
