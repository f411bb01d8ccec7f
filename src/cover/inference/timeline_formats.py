"""Timelines for people, players and programs.

.csv     head, start_seconds, end_seconds, label, score: a row a segment; names as they are, as in formats.py
.json    {"file", "duration_seconds", "window_seconds", "stride_seconds", "heads": {head: [a segment, …]}}
.srt     subtitles, a cue a segment
.vtt     WebVTT, likewise
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict, fields
from html import escape as escape_html
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from cover.core.atomic_files import whole_file
from cover.errors import printable
from cover.inference.prediction_files import for_suffix
from cover.inference.timeline import Timeline
from cover.inference.windows import Segment


def timeline_table(timeline: Timeline) -> Table:
    """A row a segment."""
    title = f"{timeline.file} ({clock(timeline.duration_seconds)})"
    start, end, score = (Column(name, justify="right") for name in ("from", "to", "probability (%)"))
    table = Table("head", start, end, "class", score, title=title, title_justify="left", box=SIMPLE_HEAD)
    for head in timeline.heads:
        for segment in (segment for segment in timeline.segments if segment.head == head):
            times = clock(segment.start_seconds), clock(segment.end_seconds)
            table.add_row(head, *times, segment.label, f"{100 * segment.score:.1f}")
        table.add_section()
    return table


def timeline_writer(path: Path) -> Callable[[Timeline], None]:
    """What writes a timeline to `path`, in the format of its suffix; the file appears whole or not at all.

    Raises CoverError for a suffix that is none of the above.
    """
    formatted = for_suffix(path, _FORMATS)

    def write(timeline: Timeline) -> None:
        with whole_file(path) as unfinished:
            unfinished.write_text(formatted(timeline), encoding="utf-8", newline="")

    return write


def timeline_json(timeline: Timeline) -> str:
    """Times and scores are rounded to thousandths."""
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


def clock(seconds: float) -> str:
    """0:07.5, 12:34.0, 1:02:03.4."""
    tenths = round(10 * seconds)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    hour = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{hour}:{tenths // 10:02}.{tenths % 10}"


def _csv(timeline: Timeline) -> str:
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(field.name for field in fields(Segment))
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
    return f"{head}{segment.label} {100 * segment.score:.0f} %"


def _rounded(segment: Segment) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(segment).items()}


def _without_head(segment: Segment) -> dict[str, Any]:
    values = _rounded(segment)
    del values["head"]
    return values
