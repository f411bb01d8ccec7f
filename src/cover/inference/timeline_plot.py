"""A timeline as a picture: for each head, a row a class, and a bar for each of its segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from cover.core.atomic_files import whole_file
from cover.core.drawing import COLORS, STYLE, drawing
from cover.inference.prediction_files import for_suffix
from cover.inference.timeline import Timeline
from cover.inference.timeline_formats import clock
from cover.inference.windows import Segment

MAX_CLASSES = 16
"""Classes of a head that are drawn: those with the most seconds, weighted by their scores."""

_MAX_NAME_LENGTH = 36
_ROUND_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_FORMATS = {".pdf": "pdf", ".png": "png", ".svg": "svg"}


def timeline_plotter(path: Path) -> Callable[[Timeline], None]:
    """What draws a timeline to `path`; the file appears whole or not at all.

    Raises CoverError for a suffix other than .pdf, .png, .svg.
    """
    kind = for_suffix(path, _FORMATS)

    def plot(timeline: Timeline) -> None:
        with whole_file(path) as unfinished, drawing(STYLE):
            timeline_figure(timeline).savefig(unfinished, format=kind, dpi=150)

    return plot


def timeline_figure(timeline: Timeline) -> Figure:
    """A panel a head on one axis of time; a bar is the stronger in colour, the more probable its class."""
    segments = {head: _longest_classes(timeline, head) for head in timeline.heads}
    num_rows = {head: max(len({segment.label for segment in shown}), 1) for head, shown in segments.items()}
    height_inches = 0.8 + sum(0.45 + 0.22 * rows for rows in num_rows.values())
    figure = Figure(figsize=(9, height_inches), layout="constrained")
    panels = figure.subplots(
        len(segments), 1, sharex=True, squeeze=False, height_ratios=[rows + 0.6 for rows in num_rows.values()]
    )
    for axes, color, (head, shown) in zip(panels[:, 0], _colors(len(segments)), segments.items(), strict=True):
        axes.set_title(head)
        _draw(axes, shown, color)
    axes.set_xlim(0, timeline.duration_seconds)
    axes.xaxis.set_major_locator(MultipleLocator(_tick_seconds(timeline.duration_seconds)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds).removesuffix(".0")))
    axes.set_xlabel("time; the stronger the colour, the more probable the class")
    return figure


def _draw(axes: Axes, segments: Sequence[Segment], color: str) -> None:
    labels = list(dict.fromkeys(segment.label for segment in segments))
    axes.grid(axis="y", visible=False)
    for segment in segments:
        span = (segment.start_seconds, segment.end_seconds - segment.start_seconds)
        bar_color = _mixed_with_white(color, 0.15 + 0.85 * segment.score)
        axes.broken_barh([span], (labels.index(segment.label) - 0.38, 0.76), color=bar_color, lw=0)
    axes.set_yticks(range(len(labels)), [_shortened(label) for label in labels])
    axes.set_ylim(max(len(labels), 1) - 0.4, -0.6)


def _tick_seconds(duration_seconds: float) -> float:
    """A round step of a clock that gives ten marks at most."""
    return next((step for step in _ROUND_SECONDS if duration_seconds <= 10 * step), duration_seconds / 10)


def _longest_classes(timeline: Timeline, head: str) -> list[Segment]:
    """The head's segments, in order of time, without those of its less frequent classes."""
    segments = [segment for segment in timeline.segments if segment.head == head]
    weights = Counter[str]()
    for segment in segments:
        weights[segment.label] += segment.score * (segment.end_seconds - segment.start_seconds)  # type: ignore[assignment]
    shown = {label for label, _ in weights.most_common(MAX_CLASSES)}
    return [segment for segment in segments if segment.label in shown]


def _mixed_with_white(color: str, share: float) -> tuple[float, ...]:
    return tuple(1 - share * (1 - part) for part in to_rgb(color))


def _colors(count: int) -> list[str]:
    return [COLORS[index % len(COLORS)] for index in range(count)]


def _shortened(name: str) -> str:
    return name if len(name) <= _MAX_NAME_LENGTH else f"{name[: _MAX_NAME_LENGTH - 1]}…"
