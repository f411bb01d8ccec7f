"""Commands for the built-in datasets: demo, world."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cover.cli.app import Device, Out, app, console, progress_console
from cover.cli.index import print_manifest


class DemoPreset(StrEnum):
    """Size of the demo."""

    smoke = "smoke"
    quick = "quick"
    full = "full"


class WorldPreset(StrEnum):
    """Size of the built-in datasets."""

    smoke = "smoke"
    quick = "quick"
    full = "full"
    small_study = "small_study"
    study = "study"


@app.command()
def demo(
    preset: Annotated[
        DemoPreset, typer.Option(help="smoke: a check, quick: for 2 cores, full: for a GPU.")
    ] = DemoPreset.quick,
    out: Out = Path("demo"),
    device: Device = None,
) -> None:
    """Run the whole job on built-in datasets.

    Render datasets, pre-train, train the standard and the co-training policy, evaluate both, and write a report. The
    command continues where it was interrupted.
    """
    from cover.demo import run_demo

    if stopped := run_demo(preset.value, out, progress_console()):
        console().print("interrupted and saved; the same command continues from here")
        raise typer.Exit(128 + stopped)


@app.command()
def world(
    preset: Annotated[WorldPreset, typer.Option(help="How much to render.")] = WorldPreset.quick,
    out: Out = Path("world"),
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed renders other clips.")] = 0,
    processes: Annotated[int | None, typer.Option(help="Default: all cores.")] = None,
) -> None:
    """Render and index the built-in datasets.

    They are images and clips of the Freedoom game world.
    """
    from cover.demo import make_world

    for manifest in make_world(preset.value, out, datasets=dataset, seed=seed, num_processes=processes):
        print_manifest(manifest)
