"""Commands that use a trained run: evaluate, compare, info, export."""

from __future__ import annotations

import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cover.cli.app import AllowChangedData, Data, Run, Split, app, console
from cover.errors import CoverError, DecodeError

if TYPE_CHECKING:
    from cover.evaluation.result import DatasetResult
    from cover.evaluation.sample_views import FrameOrder


class ExportFormat(StrEnum):
    """Who is to read an export."""

    transformers = "transformers"
    safetensors = "safetensors"
    onnx = "onnx"
    torch_export = "torch-export"


@app.command()
def evaluate(
    run: Run,
    split: Annotated[Split, typer.Option(help="Which manifests of the recipe.")] = Split.test,
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Frames in reversed order.")] = False,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Control: frames in random order.")] = False,
    single_frame: Annotated[bool, typer.Option("--single-frame", help="Control: one frame, repeated.")] = False,
    num_clips: Annotated[int | None, typer.Option(min=1, help="Views in time. Default: the recipe's.")] = None,
    num_crops: Annotated[int | None, typer.Option(min=1, help="Views in space. Default: the recipe's.")] = None,
    data: Data = None,
    allow_changed_data: AllowChangedData = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Evaluate every head on its dataset; results are kept in RUN/evaluation.

    Datasets without the split are left out. Exit code 0: all others were evaluated; 1: some of them have no sample that
    can be decoded; 2: none has, or the call is mistaken.
    """
    from cover.reports.tables import results_table
    from cover.runs.folder import parse_moves
    from cover.runs.trained import TrainedRun

    if reverse + shuffle + single_frame > 1:
        raise CoverError("--reverse, --shuffle and --single-frame exclude each other; give one")
    order: FrameOrder = "reversed" if reverse else "shuffled" if shuffle else "single" if single_frame else "normal"
    trained = TrainedRun.open(run, moves=parse_moves(data or ()), allow_changed_data=allow_changed_data)
    manifests = trained.manifests(split.value, dataset or ())
    results: list[DatasetResult] = []
    num_undecodable = 0
    try:
        for name, manifest in manifests.items():
            try:
                results.append(trained.evaluate(name, manifest, order, num_clips=num_clips, num_crops=num_crops))
            except DecodeError as error:
                num_undecodable += 1
                print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"stopped; {len(results)} of {len(manifests)} datasets were evaluated", file=sys.stderr)
        raise typer.Exit(128 + signal.SIGINT) from None
    finally:  # what is finished is kept in the run, so it is shown whatever ended the others
        if results and json:
            print("[" + ",\n".join(result.to_json() for result in results) + "]")
        elif results:
            console().print(results_table(results))
    raise typer.Exit((1 if results else 2) if num_undecodable else 0)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Evaluated runs, or single checkpoints of theirs.")],
    out: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("report.html"),
    json: Annotated[Path | None, typer.Option(help="Write the comparison as JSON, too.")] = None,
    data: Data = None,
    allow_changed_data: AllowChangedData = False,
) -> None:
    """Compare runs: one HTML page and tables of policies, frame orders, classes, calibration and confusions."""
    from cover.runs.folder import parse_moves
    from cover.runs.trained import compare_runs

    moves = parse_moves(data or ())
    compare_runs(runs, out, console(), json_out=json, moves=moves, allow_changed_data=allow_changed_data)
    console().print(f"report: {out}", soft_wrap=True, markup=False)


@app.command()
def info(
    file: Annotated[str, typer.Argument(help="A run, checkpoint, or file or folder of foreign weights.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what a file of weights holds: architecture, size, cost, heads, input, origin."""
    from cover.models.info import info_table
    from cover.runs.record import describe

    described = describe(file)
    if json:
        print(described.to_json())
    else:
        console().print(info_table(described))


@app.command()
def export(
    run: Run,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write; a new one.")],
    to: Annotated[ExportFormat, typer.Option(help="Who is to read it; safetensors is cover's own format.")],
    head: Annotated[str | None, typer.Option(help="The dataset to answer for; transformers takes but one.")] = None,
    num_frames: Annotated[
        int | None, typer.Option(min=1, help="For onnx, torch-export: frames of a clip. Default: the model's.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="For onnx, torch-export: side in pixels. Default: the model's.")
    ] = None,
) -> None:
    """Write a model for other tools: weights, labels and input format, or one file that runs without cover."""
    from cover.core.run_files import find_checkpoint
    from cover.models.export.graph import fit
    from cover.models.export.programs import export_onnx, export_torch
    from cover.models.export.transformers import export_safetensors, export_transformers
    from cover.models.weights import load_model

    is_graph = to in (ExportFormat.onnx, ExportFormat.torch_export)
    if to is ExportFormat.safetensors and head:
        raise CoverError(f"--head {head} with --to safetensors, which writes every head; leave it out")
    if (num_frames or image_size) and not is_graph:
        raise CoverError(f"--num-frames and --image-size with --to {to}, which keeps the model's own; leave them out")
    model = load_model(find_checkpoint(run))
    if is_graph:
        fitted = fit(model, head=head, num_frames=num_frames, image_size_px=image_size)
        (export_onnx if to is ExportFormat.onnx else export_torch)(fitted, out)
    elif to is ExportFormat.transformers:
        export_transformers(model, out, head)
    else:
        export_safetensors(model, out)
    console().print(f"exported: {out}", soft_wrap=True)
