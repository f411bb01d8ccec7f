"""Commands to begin with, and for when something is wrong: init, doctor."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cover.cli.app import Force, app, console, keep_existing


@app.command("init")
def init_command(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST...", help="Manifests of all splits, as `cover index` writes them.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The recipe to write. Default: the name of the first dataset, with .toml.")
    ] = None,
    force: Force = False,
) -> None:
    """Write a first recipe for manifests.

    Its values suit the size of the data, and comments say what they do.
    """
    from cover.core.atomic_files import write_whole
    from cover.datasets.manifest import Manifest
    from cover.runs.starter import starter_recipe

    opened = [Manifest.open(path) for path in manifests]
    out = out or Path(f"{opened[0].name}.toml")
    keep_existing(out, force=force)
    write_whole(out, starter_recipe(opened, out.parent))
    command = shlex.join(["cover", "train", str(out), "--dry-run"])
    console().print(f"recipe: {out}", f"next: {command}", sep="\n", soft_wrap=True)


@app.command("doctor")
def doctor_command() -> None:
    """Print versions, devices and decoders, to paste into an issue."""
    from cover.runs.doctor import report

    print(report())
