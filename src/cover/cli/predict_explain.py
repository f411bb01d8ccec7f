"""Commands that show a model a user's own files: predict, explain."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cover.cli.app import Device, Force, Heads, Model, Views, app, console, keep_existing, parse_views
from cover.errors import CoverError

if TYPE_CHECKING:
    from cover.inference.prediction import Prediction


@app.command("predict")
def predict_command(
    model: Model,
    files: Annotated[
        list[str],
        typer.Argument(help="Videos, images, folders, patterns, @LIST with a path a line, or - for a list on stdin."),
    ],
    head: Heads = None,
    top: Annotated[int, typer.Option(min=1, help="Classes of each head.")] = 5,
    views: Views = None,
    frame_folders: Annotated[
        bool, typer.Option("--frame-folders", help="Take a folder of images as one video of these frames.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="A .csv, .json, .jsonl or .parquet file to write; CSV holds names unchanged.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    force: Force = False,
    device: Device = None,
) -> None:
    """Classify videos and images with every head.

    Files that cannot be read are named and skipped. Exit code 0: all files were read; 1: some were not; 2: the call is
    wrong.
    """
    from cover.inference.inputs import Inputs
    from cover.runs.predict import predict

    num_clips, num_crops = parse_views(views)
    keep_existing(out, force=force)
    classified = partial(
        predict,
        model,
        files,
        heads=head or (),
        top=top,
        num_clips=num_clips,
        num_crops=num_crops,
        frame_folders=frame_folders,
    )
    raise typer.Exit(_show_predictions(classified, Inputs(files, frame_folders).count, out, json) > 0)


def _show_predictions(
    classified: Callable[..., Iterator[Prediction]], count_files: Callable[[], int | None], out: Path | None, json: bool
) -> int:
    """Show predictions as they come, with a progress bar. Returns the number of unreadable files."""
    from cover.core.progress import progress_bar

    num_files = num_unreadable = 0
    with (
        _prediction_output(out, json) as write,
        progress_bar("files", visible=bool(out) or not sys.stdout.isatty(), transient=True) as progress,
    ):
        bar = progress.add_task("predicting", total=count_files())

        def skip(error: Exception) -> None:
            nonlocal num_unreadable
            num_unreadable += 1
            print(f"error: {error}", file=sys.stderr)
            progress.advance(bar)

        for prediction in classified(on_unreadable=skip):
            write(prediction)
            num_files += 1
            progress.advance(bar)
    if out:
        left_out = f", {num_unreadable:,} unreadable" if num_unreadable else ""
        console().print(f"predictions: {out} (files: {num_files:,}{left_out})", soft_wrap=True)
    return num_unreadable


@contextmanager
def _prediction_output(out: Path | None, json: bool) -> Iterator[Callable[[Prediction], None]]:
    """Where predictions go: a file, JSON on the terminal, or one table each."""
    from cover.inference.prediction_files import json_list, prediction_table, predictions_file

    if out and json:
        raise CoverError("--out writes a file, which may be .json, and --json prints; give one of the two")
    if out:
        with predictions_file(out) as write:
            yield write
    elif json:
        with json_list(sys.stdout) as write:
            yield write
    else:
        terminal = console()
        yield lambda prediction: terminal.print(prediction_table(prediction))


@app.command()
def explain(
    model: Model,
    file: Annotated[Path, typer.Argument(help="A video or an image.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write to.  [required]", show_default=False)] = None,
    head: Annotated[
        str | None, typer.Option(help="The head whose class is explained; needed if there are several.")
    ] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Default: the most probable class.")] = None,
    force: Force = False,
    device: Device = None,
) -> None:
    """Show why a video or an image got a class.

    Shows which patches of which frames spoke for the class, where the model looked, and whether time mattered. OUT gets
    strip.png, overlay.mp4 (for videos) and explanation.json.
    """
    from cover.inference.explanation_files import JSON_FILE, STRIP_FILE, VIDEO_FILE, headline, write_explanation
    from cover.runs.trained import open_model

    opened = open_model(model)
    opened.model.attributor()  # or refuse before anything is asked
    if out is None:
        raise CoverError("there is no --out; name a folder for strip.png, overlay.mp4 and explanation.json")
    keep_existing(*(out / name for name in (STRIP_FILE, VIDEO_FILE, JSON_FILE)), force=force)
    explanation = opened.explain(file, head, class_name)
    files = write_explanation(explanation, out)
    console().print(*headline(explanation), sep="\n", soft_wrap=True)
    console().print(f"written: {', '.join(map(str, files))}", soft_wrap=True)
