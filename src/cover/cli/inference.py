"""Commands that show a trained run a user's own files: predict."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cover.cli.app import Run, app, console
from cover.errors import CoverError

if TYPE_CHECKING:
    from cover.inference.predict import Prediction

Heads = Annotated[list[str] | None, typer.Option("--head", help="Only this head; may be repeated.")]


@app.command()
def predict(
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
    out: Annotated[Path | None, typer.Option(help="A .csv, .json, .jsonl or .parquet file to write.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Print the top classes of every head for videos and images.

    Files that cannot be read are named and passed over. Exit code 0: all were read; 1: some were not; 2: a mistake in
    the call.
    """
    from cover.inference.inputs import Inputs
    from cover.progress import progress_bar
    from cover.trained import TrainedRun

    num_clips, num_crops = parse_views(views) if views else (None, None)
    num_unreadable = 0
    with _prediction_output(out, json) as write:
        inputs = Inputs(files, frame_folders)
        num_files = inputs.count()
        trained = TrainedRun.open(run)
        with progress_bar("files", visible=bool(out) or not sys.stdout.isatty(), transient=True) as progress:
            bar = progress.add_task("predicting", total=num_files)

            def report(error: Exception) -> None:
                nonlocal num_unreadable
                num_unreadable += 1
                print(f"error: {error}", file=sys.stderr)
                progress.advance(bar)

            for prediction in trained.predict(
                inputs, heads=head or (), top=top, num_clips=num_clips, num_crops=num_crops, on_unreadable=report
            ):
                write(prediction)
                progress.advance(bar)
    raise typer.Exit(num_unreadable > 0)


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
    from cover.inference.formats import json_list, prediction_table, predictions_file

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
