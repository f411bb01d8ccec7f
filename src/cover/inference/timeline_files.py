"""Timelines for people, players and programs: tables, files and pictures.

.csv     head, start_seconds, end_seconds, class, probability: one row a segment; names unchanged, as in predictions
.json    {"file", "duration_seconds", "window_seconds", "stride_seconds", "heads": {head: [a segment, …]}}
.srt     subtitles, one cue a segment
.vtt     WebVTT, likewise
.pdf, .png, .svg    a panel a head, with a row a class and a bar a segment
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from html import escape as escape_html
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from cover.core.atomic_files import whole_file
from cover.core.drawing import COLORS, STYLE, drawing, shortened
from cover.errors import printable
from cover.inference.prediction_files import for_suffix
from cover.inference.timeline import Timeline
from cover.inference.windows import Segment

MAX_CLASSES = 16
"""Classes of a head that are drawn: those with the most seconds, weighted by their probabilities."""
_ROUND_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


def timeline_table(timeline: Timeline) -> Table:
    """Show a timeline: one row a segment."""
    title = f"{timeline.file} ({clock(timeline.duration_seconds)}), in windows of {timeline.window_seconds:g} s"
    start, end, percent = (Column(name, justify="right") for name in ("from", "to", "probability (%)"))
    table = Table("head", start, end, "class", percent, title=title, title_justify="left", box=SIMPLE_HEAD)
    for head in timeline.heads:
        for segment in (segment for segment in timeline.segments if segment.head == head):
            times = clock(segment.start_seconds), clock(segment.end_seconds)
            table.add_row(head, *times, segment.class_name, f"{100 * segment.probability:.1f}")
        table.add_section()
    return table


def timeline_writer(path: Path) -> Callable[[Timeline], None]:
    """Make a function that writes a timeline to a .csv, .json, .srt or .vtt file; it appears whole or not at all.

    Raises:
        CoverError: `path` has another suffix.
    """
    formatted = for_suffix(path, _FORMATS)

    def write(timeline: Timeline) -> None:
        with whole_file(path) as unfinished:
            unfinished.write_text(formatted(timeline), encoding="utf-8", newline="")

    return write


def timeline_plotter(path: Path) -> Callable[[Timeline], None]:
    """Make a function that draws a timeline into a .pdf, .png or .svg file; it appears whole or not at all.

    Raises:
        CoverError: `path` has another suffix.
    """
    kind = for_suffix(path, _PICTURE_FORMATS)

    def plot(timeline: Timeline) -> None:
        with whole_file(path) as unfinished, drawing(STYLE):
            timeline_figure(timeline).savefig(unfinished, format=kind, dpi=150)

    return plot


def timeline_json(timeline: Timeline) -> str:
    """Write a timeline as JSON, times and probabilities rounded to thousandths."""
    return json.dumps(
        {
            "file": printable(timeline.file),
            "duration_seconds": round(timeline.duration_seconds, 3),
            "window_seconds": timeline.window_seconds,
            "stride_seconds": timeline.stride_seconds,
            "heads": {
                head: [_without_head(segment) for segment in timeline.segments if segment.head == head]
                for head in timeline.heads
            },
        },
        indent=2,
    )


def timeline_figure(timeline: Timeline) -> Figure:
    """Draw a panel for each head on one time axis. The more probable a class, the stronger the colour of its bar."""
    segments = {head: _longest_classes(timeline, head) for head in timeline.heads}
    num_rows = {head: max(len({segment.class_name for segment in shown}), 1) for head, shown in segments.items()}
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


def clock(seconds: float) -> str:
    """Write a time as players show it: 0:07.5, 12:34.0, 1:02:03.4."""
    tenths = round(10 * seconds)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    hour = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{hour}:{tenths // 10:02}.{tenths % 10}"


def _csv(timeline: Timeline) -> str:
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow("class" if field.name == "class_name" else field.name for field in fields(Segment))
    table.writerows(_rounded(segment).values() for segment in timeline.segments)
    return file.getvalue()


def _srt(timeline: Timeline) -> str:
    cues = (f"{_span(segment, ',')}\n{_caption(segment, timeline)}\n" for segment in _in_time(timeline))
    return "\n".join(f"{number}\n{cue}" for number, cue in enumerate(cues, start=1))


def _vtt(timeline: Timeline) -> str:
    captions = ((segment, escape_html(_caption(segment, timeline), quote=False)) for segment in _in_time(timeline))
    return "\n".join(["WEBVTT\n", *(f"{_span(segment, '.')}\n{caption}\n" for segment, caption in captions)])


_FORMATS: dict[str, Callable[[Timeline], str]] = {
    ".csv": _csv,
    ".json": lambda timeline: timeline_json(timeline) + "\n",
    ".srt": _srt,
    ".vtt": _vtt,
}
_PICTURE_FORMATS = {".pdf": "pdf", ".png": "png", ".svg": "svg"}


def _in_time(timeline: Timeline) -> list[Segment]:
    return sorted(timeline.segments, key=lambda segment: segment.start_seconds)


def _span(segment: Segment, point: str) -> str:
    return f"{_timestamp(segment.start_seconds, point)} --> {_timestamp(segment.end_seconds, point)}"


def _timestamp(seconds: float, point: str) -> str:
    milliseconds = round(1000 * seconds)
    whole = milliseconds // 1000
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{milliseconds % 1000:03}"


def _caption(segment: Segment, timeline: Timeline) -> str:
    head = f"{segment.head}: " if len(timeline.heads) > 1 else ""
    return f"{head}{segment.class_name} {100 * segment.probability:.0f} %"


def _rounded(segment: Segment) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(segment).items()}


def _without_head(segment: Segment) -> dict[str, Any]:
    values = _rounded(segment)
    return {"class" if name == "class_name" else name: value for name, value in values.items() if name != "head"}


def _draw(axes: Axes, segments: Sequence[Segment], color: str) -> None:
    labels = list(dict.fromkeys(segment.class_name for segment in segments))
    axes.grid(axis="y", visible=False)
    for segment in segments:
        span = (segment.start_seconds, segment.end_seconds - segment.start_seconds)
        bar_color = _mixed_with_white(color, 0.15 + 0.85 * segment.probability)
        axes.broken_barh([span], (labels.index(segment.class_name) - 0.38, 0.76), color=bar_color, lw=0)
    axes.set_yticks(range(len(labels)), [shortened(label) for label in labels])
    axes.set_ylim(max(len(labels), 1) - 0.4, -0.6)


def _tick_seconds(duration_seconds: float) -> float:
    """A round number of seconds that gives at most ten marks."""
    return next((step for step in _ROUND_SECONDS if duration_seconds <= 10 * step), duration_seconds / 10)


def _longest_classes(timeline: Timeline, head: str) -> list[Segment]:
    """A head's segments in order of time, without those of its rarer classes."""
    segments = [segment for segment in timeline.segments if segment.head == head]
    weights = Counter[str]()
    for segment in segments:
        weights[segment.class_name] += segment.probability * (segment.end_seconds - segment.start_seconds)  # type: ignore[assignment]
    shown = {label for label, _ in weights.most_common(MAX_CLASSES)}
    return [segment for segment in segments if segment.class_name in shown]


def _mixed_with_white(color: str, share: float) -> tuple[float, ...]:
    return tuple(1 - share * (1 - part) for part in to_rgb(color))


def _colors(count: int) -> list[str]:
    return [COLORS[index % len(COLORS)] for index in range(count)]
