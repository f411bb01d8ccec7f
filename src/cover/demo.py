"""The whole job from nothing: render, index, pre-train, train both policies, evaluate, compare.

    OUT/world/*/…               the rendered media files
    OUT/world/*.arrow, *.png    their manifests and contact sheets
    OUT/world/frames            their decoded frames, for all runs
    OUT/recipes/*.toml          copies of the recipes, to read and to change
    OUT/runs/{pretrain, standard_scenes, standard_moves, standard_events, cotrain}
    OUT/report.html             the comparison

Every stage continues where it stopped: existing files are not rendered again, runs resume, results are kept.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator, Sequence
from importlib.resources import as_file, files
from pathlib import Path

from rich.console import Console

from cover.config.recipe_files import read_recipe
from cover.core.atomic_files import write_whole, writing
from cover.core.run_files import RunFiles
from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest
from cover.evaluation.sample_views import FrameOrder
from cover.runs.compare import compare_runs
from cover.runs.plan import plan
from cover.runs.train import train
from cover.runs.trained import TrainedRun
from cover.world.contact_sheet import write_contact_sheets
from cover.world.presets import DATASETS
from cover.world.render import render_world

PRETRAIN = "pretrain"
STANDARD = ("standard_scenes", "standard_moves", "standard_events")
COTRAIN = "cotrain"
RECIPES = {"smoke": "quick", "quick": "quick", "full": "full"}
"""Preset of the world → folder of recipes."""
STANDARD_ORDERS: tuple[FrameOrder, ...] = ("normal", "reversed")
COTRAIN_ORDERS: tuple[FrameOrder, ...] = (*STANDARD_ORDERS, "shuffled", "single")


def make_world(
    preset: str,
    out: Path,
    *,
    datasets: Sequence[str] | None = None,
    seed: int = 0,
    num_processes: int | None = None,
) -> list[Manifest]:
    """Render the built-in datasets, index them as a user's data would be, and draw a contact sheet of each.

    Args:
        preset: Size of the datasets, a name in `cover.world.presets.PRESETS`.
        out: Gets <dataset>/, <dataset>-<split>.arrow and <dataset>-train.png.
        datasets: Names of datasets; all of them by default.
        seed: Another seed renders other clips.
        num_processes: All cores by default.

    Returns:
        The manifests.

    Raises:
        CoverError: ViZDoom is not installed, the preset or a dataset is unknown, or `out` holds other files.
    """
    print(render_world(out, preset, seed=seed, num_processes=num_processes, datasets=datasets))
    indexed = []
    for name in datasets or DATASETS:
        indexed += index_folder(out / name, kind=DATASETS[name].kind, out=out, name=name)
    write_contact_sheets(out)
    return indexed


def run_demo(preset: str, out: Path, console: Console) -> signal.Signals | None:
    """Run every stage and write OUT/report.html.

    Args:
        preset: Size of the demo, a key of RECIPES.
        out: The folder to work in.
        console: Where progress and results are printed.

    Returns:
        The signal that ended training early, or None.

    Raises:
        CoverError: A stage failed.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    stages = Stages(out / "stages.json", console)
    with stages("render and index"):
        make_world(preset, out / "world")
    copy_recipes(preset, out / "recipes")
    for name in (PRETRAIN, *STANDARD, COTRAIN):
        with stages(f"train {name}"):
            recipe, folder = read_recipe(out / "recipes" / f"{name}.toml"), out / "runs" / name
            if stopped := train(plan(recipe), folder, console, resume=bool(RunFiles(folder).checkpoints())):
                return stopped
    runs = [out / "runs" / name for name in (*STANDARD, COTRAIN)]
    with stages("evaluate"):
        for run in runs:
            evaluate_orders(run, COTRAIN_ORDERS if run.name == COTRAIN else STANDARD_ORDERS)
    compare_runs(runs, out / "report.html", console, stages=stages.seconds)
    console.print(f"report: {out / 'report.html'}", soft_wrap=True)
    return None


def copy_recipes(preset: str, folder: Path) -> None:
    """Copy the demo's recipes to where the user can read and change them; existing ones are kept."""
    with as_file(files("cover") / "recipes" / "demo" / RECIPES[preset]) as source:
        for recipe in source.glob("*.toml"):
            if not (folder / recipe.name).exists():
                write_whole(folder / recipe.name, recipe.read_text(encoding="utf-8"))


def evaluate_orders(path: Path, video_orders: Sequence[FrameOrder]) -> None:
    """Evaluate a run's best checkpoint on the test splits: videos in these frame orders, images in the normal one."""
    run = TrainedRun.open(path)
    for name in run.recipe.datasets:
        manifest = run.manifest(name, "test")
        for order in video_orders if manifest.kind == "video" else ("normal",):
            if not run.has_result(name, manifest, order):
                run.evaluate(name, manifest, order)


class Stages:
    """The wall time of each stage, added up over interruptions and kept in a file.

    >>> with stages("train cotrain"): ...
    """

    def __init__(self, file: Path, console: Console) -> None:
        self.file, self.console = file, console
        self.seconds: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.console.rule(name)
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - started, 1)
            write_whole(self.file, json.dumps(self.seconds, indent=2) + "\n")
