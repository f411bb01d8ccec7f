"""Commands that show a model a user's own files: predict, explain."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cover.cli.app import Device, Heads, Model, app, console
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
    views: Annotated[
        str | None, typer.Option(metavar="CLIPSxCROPS", help="Views to average. Default: the recipe's.")
    ] = None,
    frame_folders: Annotated[
        bool, typer.Option("--frame-folders", help="Take a folder of images as one video of these frames.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="A .csv, .json, .jsonl or .parquet file to write; CSV holds names unchanged.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    device: Device = None,
) -> None:
    """Classify videos and images with every head.

    Files that cannot be read are named and skipped. Exit code 0: all files were read; 1: some were not; 2: the call is
    wrong.
    """
    from cover.inference.inputs import Inputs
    from cover.runs.predict import predict

    num_clips, num_crops = parse_views(views) if views else (None, None)
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

    num_unreadable = 0
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
            progress.advance(bar)
    return num_unreadable


def parse_views(text: str) -> tuple[int, int]:
    """Parse "4x3" into (num_clips, num_crops)."""
    num_clips, _, num_crops = text.partition("x")
    if not num_clips.isdecimal() or not num_crops.isdecimal() or not int(num_clips) or not int(num_crops):
        raise CoverError(
            f"--views '{text}' is not of the form CLIPSxCROPS; 4x3 takes 4 clips of a video and 3 crops of each"
        )
    return int(num_clips), int(num_crops)


@contextmanager
def _prediction_output(out: Path | None, json: bool) -> Iterator[Callable[[Prediction], None]]:
    """Where predictions go: a file, JSON on the terminal, or one table each."""
    from cover.inference.prediction_files import json_list, prediction_table, predictions_file

    if out and json:
        raise CoverError("--out writes a file, which may be .json, and --json prints; give one of the two")
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


@app.command()
def explain(
    model: Model,
    file: Annotated[Path, typer.Argument(help="A video or an image.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write to; needed.", show_default=False)] = None,
    head: Annotated[
        str | None, typer.Option(help="The head whose class is explained; needed if there are several.")
    ] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Default: the most probable class.")] = None,
    device: Device = None,
) -> None:
    """Show why a video or an image got a class.

    Shows which patches of which frames spoke for the class, where the model looked, and whether time mattered. OUT gets
    strip.png, overlay.mp4 (for videos) and explanation.json.
    """
    from cover.inference.explanation_files import headline, write_explanation
    from cover.runs.trained import open_model

    opened = open_model(model)
    opened.model.attributor()  # or refuse before anything is asked
    if out is None:
        raise CoverError("there is no --out; name a folder for strip.png, overlay.mp4 and explanation.json")
    explanation = opened.explain(file, head, class_name)
    files = write_explanation(explanation, out)
    console().print(*headline(explanation), sep="\n", soft_wrap=True)
    console().print(f"written: {', '.join(map(str, files))}", soft_wrap=True)
