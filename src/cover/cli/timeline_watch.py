"""Commands for long videos and live streams: timeline, watch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cover.cli.app import Device, Force, Heads, Model, app, console, keep_existing
from cover.errors import CoverError, escaped

if TYPE_CHECKING:
    from cover.inference.timeline import Change, Timeline

WindowSeconds = Annotated[
    float | None,
    typer.Option(
        help="Length of the sliding window. Default: that of the training clips if they were windows, else 4."
    ),
]
StrideSeconds = Annotated[float | None, typer.Option(help="From window to window. Default: a quarter of a window.")]
Threshold = Annotated[float, typer.Option(min=0, max=1, help="Lowest probability of a class.")]


@app.command("timeline")
def timeline_command(
    model: Model,
    video: Annotated[Path | None, typer.Argument(metavar="VIDEO", help="A video file of any length.")] = None,
    live: Annotated[str | None, typer.Option(hidden=True, help="The former name of `cover watch`.")] = None,
    window_seconds: WindowSeconds = None,
    stride_seconds: StrideSeconds = None,
    head: Heads = None,
    top: Annotated[int, typer.Option(min=1, help="Classes of a head at a time.")] = 1,
    threshold: Threshold = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="A .csv, .json, .srt or .vtt file to write; CSV holds names unchanged.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="A .png, .svg or .pdf file to draw.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    force: Force = False,
    device: Device = None,
) -> None:
    """Show what happens in a long video, and when."""
    from cover.runs.predict import timeline

    if live is not None:
        print(f"hint: --live is now a command: cover watch {model} {live}", file=sys.stderr)
        watch_command(model, live, window_seconds, stride_seconds, head, threshold, json)
        return
    if video is None:
        raise CoverError("there is no VIDEO; give a file, or a stream to `cover watch`")
    keep_existing(out, plot, force=force)
    show = _timeline_output(out, plot, json)
    found = timeline(
        model,
        video,
        heads=head or (),
        window_seconds=window_seconds,
        stride_seconds=stride_seconds,
        top=top,
        threshold=threshold,
    )
    show(found)


@app.command("watch")
def watch_command(
    model: Model,
    source: Annotated[
        str, typer.Argument(help="rtsp://… or anything else that FFmpeg opens, or the number of a camera.")
    ],
    window_seconds: WindowSeconds = None,
    stride_seconds: StrideSeconds = None,
    head: Heads = None,
    threshold: Threshold = 0.0,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
    device: Device = None,
) -> None:
    """Watch a live stream for changes.

    Prints a line when a head's most probable class changes, until Ctrl-C.
    """
    from cover.runs.predict import watch

    changes = watch(
        model,
        source,
        heads=head or (),
        window_seconds=window_seconds,
        stride_seconds=stride_seconds,
        threshold=threshold,
        report=partial(print, file=sys.stderr),
    )
    print_changes(changes, json)


def _timeline_output(out: Path | None, plot: Path | None, json: bool) -> Callable[[Timeline], None]:
    """Where a timeline goes: files, JSON on the terminal, or a table. Raises CoverError for an unknown suffix."""
    from cover.inference.timeline_files import timeline_json, timeline_plotter, timeline_table, timeline_writer

    writers = {path: make(path) for path, make in ((out, timeline_writer), (plot, timeline_plotter)) if path}

    def show(timeline: Timeline) -> None:
        for write in writers.values():
            write(timeline)
        if json:
            print(timeline_json(timeline))
            return
        if not writers:
            console().print(timeline_table(timeline))
        for path in writers:
            console().print(f"timeline: {path}", soft_wrap=True)

    return show


def print_changes(changes: Iterator[Change], as_json: bool) -> None:
    """Print a line for each change at once, until there are no more or the user stops."""
    import json
    from datetime import datetime

    try:
        for change in changes:
            now = datetime.now().astimezone()
            if as_json:
                facts = {"head": change.head, "class": change.class_name, "probability": change.probability}
                print(json.dumps({"time": now.isoformat(timespec="milliseconds"), **facts}), flush=True)
            else:
                what = escaped(f"{change.head}  {change.class_name or '–'}")
                print(f"{now:%H:%M:%S}  {what}  {100 * change.probability:.1f} %", flush=True)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
