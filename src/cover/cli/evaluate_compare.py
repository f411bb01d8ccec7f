"""Commands that measure trained runs: evaluate, compare."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cover.cli.app import AllowChangedData, Data, Run, Split, app, console
from cover.errors import CoverError, DecodeError

if TYPE_CHECKING:
    from cover.evaluation.result import DatasetResult
    from cover.evaluation.sample_views import FrameOrder


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
