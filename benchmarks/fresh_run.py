"""A run of the quick demo's model with untrained weights, for benchmarks that ask how fast a run answers."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

import torch

from cover.config.recipe_files import parse_recipe
from cover.core.run_files import LATEST
from cover.models.classifier import save_model
from cover.models.create import create_model
from cover.runs.folder import RunFolder
from loader import Case, write_dataset

NUM_CLASSES = 4
CASES = {
    "clips": Case("video 128×128, 2 s", 128, 128, 2, 12, 8, 72),
    "images": Case("JPEG 128×128", 128, 128, 0, 0, 1, 72),
}


def write_run(folder: Path) -> Path:
    """Write a run as `cover train` leaves it, and its datasets `clips` and `images`, a file a class.

    Returns:
        The run folder. The manifests are in the folders `clips` and `images` beside it.
    """
    manifests = {name: write_dataset(folder / name, case, NUM_CLASSES, NUM_CLASSES) for name, case in CASES.items()}
    recipe_text = (resources.files("cover") / "recipes/demo/quick/base.toml").read_text()
    model = tomllib.loads(recipe_text)["model"]
    torch.manual_seed(0)
    run = RunFolder(folder / "run")
    heads = {name: list(manifest.class_names) for name, manifest in manifests.items()}
    save_model(create_model(**model, heads=heads), run.checkpoint(1))
    run.pointer_file(LATEST).write_text(run.checkpoint(1).name)
    datasets = {name: {"train": manifest.path, "test": manifest.path} for name, manifest in manifests.items()}
    recipe = parse_recipe({"policy": "cotrain", "model": model, "datasets": datasets}, "benchmark")
    run.write(recipe, {"train": manifests, "test": manifests})
    return run.path
