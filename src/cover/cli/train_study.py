"""Commands that train: train, study."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from cover.cli.app import AllowChangedData, Data, app, console, progress_console

if TYPE_CHECKING:
    from cover.studies.spec import Study


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file; see recipes/ for examples.")],
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/RECIPE-NAME.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key of the recipe: training.epochs=5; may be repeated."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the run's latest checkpoint.")] = False,
    data: Data = None,
    allow_changed_data: AllowChangedData = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the cost; train nothing.")
    ] = False,
) -> None:
    """Train a recipe into a run folder."""
    from cover.config.recipe import read_recipe
    from cover.runs.folder import parse_moves
    from cover.runs.plan import plan

    planned = plan(read_recipe(recipe, set_ or ()), parse_moves(data or ()))
    run = out or Path("runs") / recipe.stem
    if dry_run:
        from cover.runs.dry_run import rehearse
        from cover.runs.folder import RunFolder

        rehearse(planned, console(), is_resumed=resume and bool(RunFolder(run).checkpoints()))
        return
    from cover.runs.train import train as train_run

    stopped = train_run(planned, run, progress_console(), resume=resume, allow_changed_data=allow_changed_data)
    if stopped:
        options = [("--set", override) for override in set_ or ()] + [("--data", move) for move in data or ()]
        again = "".join(f" {option} {shlex.quote(value)}" for option, value in options)
        command = f"cover train {recipe} --out {run}{again} --resume"
        console().print(f"interrupted and saved; continue with: {command}", soft_wrap=True)
        raise typer.Exit(128 + stopped)
    progress_console().print(f"trained; the run is {run}", soft_wrap=True)


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
