"""Commands that train: train."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cover.cli.app import AllowChangedData, Data, app, console


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file; see recipes/ for examples.")],
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/RECIPE-NAME.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, e.g. training.epochs=5.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the run's latest checkpoint.")] = False,
    data: Data = None,
    allow_changed_data: AllowChangedData = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, say what it takes, train nothing.")
    ] = False,
) -> None:
    """Train a recipe into a run folder."""
    from cover.config.recipe import read_recipe
    from cover.runs.folder import parse_moves

    settings, moves = read_recipe(recipe, set_ or ()), parse_moves(data or ())
    if dry_run:
        from cover.runs.dry_run import rehearse

        rehearse(settings, console(), moves)
        return
    from cover.runs.train import train as train_run

    run = out or Path("runs") / recipe.stem
    stopped = train_run(settings, run, console(), resume=resume, allow_changed_data=allow_changed_data, moves=moves)
    if stopped:
        options = [("--set", override) for override in set_ or ()] + [("--data", move) for move in data or ()]
        again = "".join(f" {option} {shlex.quote(value)}" for option, value in options)
        command = f"cover train {recipe} --out {run}{again} --resume"
        console().print(f"interrupted and saved; continue with: {command}", soft_wrap=True)
        raise typer.Exit(128 + stopped)
    console().print(f"trained; the run is {run}", soft_wrap=True)
