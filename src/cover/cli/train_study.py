"""Commands that train: train, study."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from cover.cli.app import AllowChangedData, Data, Device, app, console, progress_console
from cover.errors import CoverError

if TYPE_CHECKING:
    from cover.studies.spec import Study


@app.command()
def train(
    recipe: Annotated[
        Path, typer.Argument(help="A TOML file; see recipes/ for examples. Or a run, which stands for its recipe.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Run folder. Default: runs/RECIPE-NAME; of a run, the run itself.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key of the recipe: training.epochs=5; may be repeated."),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Short for --set training.epochs=…")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Short for --set data.batch_size=…")] = None,
    seed: Annotated[int | None, typer.Option(help="Short for --set seed=…")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the run's latest checkpoint.")] = False,
    data: Data = None,
    allow_changed_data: AllowChangedData = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the cost; train nothing.")
    ] = False,
    device: Device = None,
) -> None:
    """Train a recipe into a run folder.

    To continue a run, name it: cover train --resume runs/clips.
    """
    from cover.runs.folder import RunFolder, parse_moves, run_of
    from cover.runs.init import open_recipe
    from cover.runs.plan import plan

    moves = parse_moves(data or ())
    short = {"training.epochs": epochs, "data.batch_size": batch_size, "seed": seed}
    overrides = [*(set_ or ()), *(f"{key}={value}" for key, value in short.items() if value is not None)]
    if given := run_of(recipe):
        read = RunFolder(given.path, moves).recipe_to_train(overrides)
        run = out or given.path
    elif recipe.suffix != ".toml" and not recipe.is_file():
        raise CoverError(
            f"{recipe} is neither a recipe nor a run; give a TOML file, or a folder that `cover train` has written"
        )
    else:
        run = out or Path("runs") / recipe.stem
        continued = resume and RunFolder(run).checkpoints()
        read = open_recipe(recipe, overrides, resumed=RunFolder(run) if continued else None)
    planned = plan(read, moves)
    if dry_run:
        from cover.runs.dry_run import rehearse

        rehearse(planned, console(), is_resumed=resume and bool(RunFolder(run).checkpoints()), measure=True)
        return
    from cover.runs.train import train as train_run

    stopped = train_run(planned, run, progress_console(), resume=resume, allow_changed_data=allow_changed_data)
    if os.environ.get("RANK", "0") == "0":
        _tell_what_next(run, stopped is not None, data or ())
    if stopped:
        raise typer.Exit(128 + stopped)


def _tell_what_next(run: Path, stopped: bool, data: Sequence[str]) -> None:
    """Print how training ended, and the command to go on with."""
    from cover.runs.folder import RunFolder
    from cover.runs.train import best_line

    moved = [part for move in data for part in ("--data", move)]
    if stopped:
        again = shlex.join(["cover", "train", "--resume", str(run), *moved])
        console().print(f"interrupted and saved; continue with: {again}", soft_wrap=True)
        return
    datasets = RunFolder(run).read_recipe().datasets.values()
    evaluable = any(section.test or section.val for section in datasets)
    command = ["cover", "evaluate", str(run), *moved] if evaluable else ["cover", "predict", str(run), "FILES"]
    lines = (f"run: {run}", best_line(RunFolder(run)), f"next: {shlex.join(command)}")
    progress_console().print(*lines, sep="\n", soft_wrap=True)


@app.command("study")
def study_(
    studies: Annotated[list[str], typer.Argument(help="TOML files, or NAME for studies/NAME.toml.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs/study"),
    side_by_side: Annotated[int, typer.Option(min=1, help="Runs at a time on each GPU, or on the CPU.")] = 1,
    page: Annotated[
        Path | None, typer.Option(help="Markdown page to fill in; it has marks as in docs/study.md.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and count the runs; run nothing.")
    ] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="Run nothing; show the results so far.")] = False,
) -> None:
    """Run studies and show their tables.

    Trains and tests every arm with several seeds. Finished runs are skipped.
    """
    from cover.studies.records import load_records
    from cover.studies.study_file import read_study
    from cover.studies.table import make_table
    from cover.studies.table_text import legend, to_terminal

    paths = [Path(name) if name.endswith(".toml") else Path("studies") / f"{name}.toml" for name in studies]
    read = [read_study(path) for path in paths]
    if page:
        from cover.studies.page import check_places, fill_in  # loads matplotlib

        check_places(page, [path.stem for path in paths])
    if dry_run:
        from cover.studies.driver import describe_studies

        describe_studies(read, out, console())
        return
    if not report_only:
        _run(read, out, side_by_side)
    for path, study in zip(paths, read, strict=True):
        table = make_table(study, load_records(study.results))
        console().print(to_terminal(table))
        console().print(legend(table))
        if page:
            fill_in(table, path.stem, page)


def _run(studies: list[Study], out: Path, side_by_side: int) -> None:
    import torch

    from cover.studies.driver import run_studies

    gpus = [str(number) for number in range(torch.cuda.device_count())]
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        run_studies(studies, out, (gpus or [""]) * side_by_side, progress_console())
    except KeyboardInterrupt:
        console().print("interrupted and saved; the same command continues from here")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, _frame: FrameType | None) -> None:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt(number)
