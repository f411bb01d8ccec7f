"""Commands that show a trained run a user's own files: predict, timeline."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cover.cli.app import Run, app, console
from cover.errors import CoverError, escaped

if TYPE_CHECKING:
    from cover.inference.prediction import Prediction
    from cover.inference.timeline import Change

Heads = Annotated[list[str] | None, typer.Option("--head", help="Only this head; may be repeated.")]


@app.command("predict")
def predict_command(
    run: Run,
    files: Annotated[
        list[str],
        typer.Argument(help="Videos, images, folders, patterns, @LIST with a path a line, or - for one on stdin."),
    ],
    head: Heads = None,
    top: Annotated[int, typer.Option(min=1, help="Classes of each head.")] = 5,
    views: Annotated[
        str | None, typer.Option(metavar="CLIPSxCROPS", help="Views that are averaged. Default: the recipe's.")
    ] = None,
    frame_folders: Annotated[
        bool, typer.Option("--frame-folders", help="A folder that holds images is one video, of these frames.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="A .csv, .json, .jsonl or .parquet file to write; CSV holds names as they are.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Print the top classes of every head for videos and images.

    Files that cannot be read are named and passed over. Exit code 0: all were read; 1: some were not; 2: a mistake in
    the call.
    """
    from cover.core.progress import progress_bar
    from cover.inference.inputs import Inputs
    from cover.runs.predict import predict

    num_clips, num_crops = parse_views(views) if views else (None, None)
    num_unreadable = 0
    with _prediction_output(out, json) as write:
        num_files = Inputs(files, frame_folders).count()
        with progress_bar("files", visible=bool(out) or not sys.stdout.isatty(), transient=True) as progress:
            bar = progress.add_task("predicting", total=num_files)

            def pass_over(error: Exception) -> None:
                nonlocal num_unreadable
                num_unreadable += 1
                print(f"error: {error}", file=sys.stderr)
                progress.advance(bar)

            for prediction in predict(
                run,
                files,
                heads=head or (),
                top=top,
                num_clips=num_clips,
                num_crops=num_crops,
                frame_folders=frame_folders,
                on_unreadable=pass_over,
            ):
                write(prediction)
                progress.advance(bar)
    raise typer.Exit(num_unreadable > 0)


@app.command("timeline")
def timeline_command(
    run: Run,
    video: Annotated[Path | None, typer.Argument(help="A video file of any length.")] = None,
    live: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE", help="A stream instead: rtsp://…, any other that FFmpeg opens, or the number of a camera."
        ),
    ] = None,
    window_seconds: Annotated[float, typer.Option(help="Shown at a time; best as long as the training clips.")] = 4.0,
    stride_seconds: Annotated[
        float | None, typer.Option(help="From window to window. Default: a quarter of a window.")
    ] = None,
    head: Heads = None,
    top: Annotated[int, typer.Option(min=1, help="Classes of a head at a time.")] = 1,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Least probability of a class.")] = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="A .csv, .json, .srt or .vtt file to write; CSV holds names as they are.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="A .png, .svg or .pdf file to draw.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Tell what happens in a long video, and when: from when to when a head gives a class.

    With --live, tell of a stream whenever that changes, until Ctrl-C.
    """
    from functools import partial

    from cover.inference.timeline_files import timeline_json, timeline_plotter, timeline_table, timeline_writer
    from cover.runs.predict import timeline, watch

    heads = head or ()
    if live is not None:
        if video or out or plot or top > 1:
            raise CoverError("--live prints the first class of each head; it goes without VIDEO, --out, --plot, --top")
        report = partial(print, file=sys.stderr)
        changes = watch(
            run,
            live,
            heads=heads,
            window_seconds=window_seconds,
            stride_seconds=stride_seconds,
            threshold=threshold,
            report=report,
        )
        print_changes(changes, json)
        return
    if video is None:
        raise CoverError("there is no VIDEO; give a file, or a stream with --live")
    outputs = {path: of(path) for path, of in ((out, timeline_writer), (plot, timeline_plotter)) if path}
    found = timeline(
        run,
        video,
        heads=heads,
        window_seconds=window_seconds,
        stride_seconds=stride_seconds,
        top=top,
        threshold=threshold,
    )
    for write in outputs.values():
        write(found)
    if json:
        print(timeline_json(found))
        return
    if not outputs:
        console().print(timeline_table(found))
    for path in outputs:
        console().print(f"timeline: {path}", soft_wrap=True)


def print_changes(changes: Iterator[Change], as_json: bool) -> None:
    """A line for each, at once, until there are no more or the user has seen enough."""
    import json
    from datetime import datetime

    try:
        for change in changes:
            now = datetime.now().astimezone()
            if as_json:
                print(json.dumps({"time": now.isoformat(timespec="milliseconds"), **vars(change)}), flush=True)
            else:
                what = escaped(f"{change.head}  {change.label or '–'}")
                print(f"{now:%H:%M:%S}  {what}  {100 * change.score:.1f} %", flush=True)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)


def parse_views(text: str) -> tuple[int, int]:
    """(num_clips, num_crops) of "4x3"."""
    num_clips, _, num_crops = text.partition("x")
    if not num_clips.isdecimal() or not num_crops.isdecimal() or not int(num_clips) or not int(num_crops):
        raise CoverError(
            f"--views '{text}' is not of the form CLIPSxCROPS; 4x3 is 4 times of a video, each cut 3 times"
        )
    return int(num_clips), int(num_crops)


@contextmanager
def _prediction_output(out: Path | None, json: bool) -> Iterator[Callable[[Prediction], None]]:
    """Where predictions go: a file, JSON on the terminal, or a table each."""
    from cover.inference.prediction_files import json_list, prediction_table, predictions_file

    if out and json:
        raise CoverError("--out writes a file, whose suffix may be .json, and --json prints; give one of the two")
    if out:
        with predictions_file(out) as write:
            yield write
        console().print(f"predictions: {out}", soft_wrap=True)
    elif json:
        with json_list(sys.stdout) as write:
            yield write
    else:
        terminal = console()
        yield lambda prediction: terminal.print(prediction_table(prediction))
