"""The progress bar of a run: what is trained, how fast, how long still."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class StepsPerSecond(ProgressColumn):
    """Recent rate of steps."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} steps/s" if task.speed else "")


def training_progress(console: Console, visible: bool) -> Progress:
    """A bar that fits 100 columns beside a description of up to 44."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        StepsPerSecond(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not visible)
