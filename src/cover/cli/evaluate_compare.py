"""Commands that measure trained runs: evaluate, compare."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cover.cli.app import (
    AllowChangedData,
    Data,
    Device,
    Force,
    Model,
    Split,
    Views,
    app,
    console,
    keep_existing,
    parse_views,
)
from cover.errors import CoverError, DecodeError

if TYPE_CHECKING:
    from cover.datasets.manifest import Manifest
    from cover.evaluation.result import DatasetResult
    from cover.evaluation.sample_views import FrameOrder


@app.command()
def evaluate(
    model: Model,
    split: Annotated[Split | None, typer.Option(help="Default: test, or val of datasets that have no test.")] = None,
    manifest: Annotated[
        list[Path] | None, typer.Option(help="Evaluate on this manifest instead of a split; may be repeated.")
    ] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Reverse the frames.")] = False,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Control: shuffle the frames.")] = False,
    single_frame: Annotated[bool, typer.Option("--single-frame", help="Control: repeat one frame.")] = False,
    views: Views = None,
    num_clips: Annotated[int | None, typer.Option(min=1, hidden=True, help="Former: the first of --views.")] = None,
    num_crops: Annotated[int | None, typer.Option(min=1, hidden=True, help="Former: the second of --views.")] = None,
    num_frames: Annotated[int | None, typer.Option(min=1, help="Frames of a clip. Default: as in training.")] = None,
    image_size: Annotated[int | None, typer.Option(min=1, help="Side of a frame. Default: as in training.")] = None,
    logits: Annotated[bool, typer.Option("--logits", help="Also keep the logits, as Parquet.")] = False,
    data: Data = None,
    allow_changed_data: AllowChangedData = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    device: Device = None,
) -> None:
    """Evaluate every head on its dataset.

    Results are kept in RUN/evaluation; those of a model without a recipe, which needs --manifest, are only printed.
    Under torchrun, processes share the samples. Datasets without the split are left out. Exit code 0: all others were
    evaluated; 1: some have no sample that can be decoded; 2: none has one, or the call is wrong.
    """
    from cover.datasets.manifest import Manifest
    from cover.runs.folder import parse_moves
    from cover.runs.trained import evaluation_processes, open_model

    if reverse + shuffle + single_frame > 1:
        raise CoverError("--reverse, --shuffle and --single-frame exclude each other; give one of them")
    if split and manifest:
        raise CoverError("--manifest names the samples to evaluate on, and so does --split; give one of them")
    order: FrameOrder = "reversed" if reverse else "shuffled" if shuffle else "single" if single_frame else "normal"
    moves = parse_moves(data or ())
    if views:
        num_clips, num_crops = parse_views(views)
    with evaluation_processes(model) as processes:
        trained = open_model(
            model,
            moves=moves,
            allow_changed_data=allow_changed_data,
            num_frames=num_frames,
            image_size=image_size,
        )
        if manifest:
            given = [Manifest.open(path).relocated(moves) for path in manifest]
            manifests = trained.heads_of(given, dataset or ())
        else:
            manifests = list(trained.manifests(split.value if split else None, dataset or ()).items())
        evaluate_group = partial(
            trained.evaluate_together,
            order=order,
            num_clips=num_clips,
            num_crops=num_crops,
            processes=processes,
            keep_logits=logits,
        )
        code = _evaluate_all(evaluate_group, trained.on_same_clips(manifests), shows=processes.rank == 0, json=json)
    raise typer.Exit(code)


def _evaluate_all(
    evaluate_group: Callable[[Mapping[str, Manifest]], list[DatasetResult]],
    groups: Sequence[Mapping[str, Manifest]],
    *,
    shows: bool,
    json: bool,
) -> int:
    """Evaluate datasets and print the results. shows: whether to print. Returns the exit code."""
    from cover.reports.terminal_tables import all_right_lines, results_table

    results: list[DatasetResult] = []
    num_undecodable = 0
    try:
        for manifests in groups:
            try:
                results += evaluate_group(manifests)
            except DecodeError as error:
                num_undecodable += len(manifests)
                if shows:
                    print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        if shows:
            print(f"stopped; {len(results)} of {sum(map(len, groups))} datasets were evaluated", file=sys.stderr)
        return 128 + signal.SIGINT
    finally:  # a run keeps finished results, so show them whatever ended the others
        if results and shows and json:
            print("[" + ",\n".join(result.to_json() for result in results) + "]")
        elif results and shows:
            console().print(results_table(results))
            for line in all_right_lines(results):
                console().print(line, soft_wrap=True)
    return (1 if results else 2) if num_undecodable else 0


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Runs, or single checkpoints of theirs.")],
    out: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("report.html"),
    json: Annotated[Path | None, typer.Option(help="Also write the comparison as JSON.")] = None,
    force: Force = False,
    data: Data = None,
    allow_changed_data: AllowChangedData = False,
    device: Device = None,
) -> None:
    """Compare evaluated runs in tables and on an HTML page.

    Shows policies, frame orders, classes, calibration and confusions.
    """
    from cover.runs.compare import compare_runs
    from cover.runs.folder import parse_moves

    moves = parse_moves(data or ())
    keep_existing(out, json, force=force)
    compare_runs(runs, out, console(), json_out=json, moves=moves, allow_changed_data=allow_changed_data)
    console().print(f"report: {out}", soft_wrap=True, markup=False)
