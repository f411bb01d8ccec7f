"""Recipes that are probably not meant, each named in one line with the value, the rule and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cover.config.recipe import parse_recipe
from cover.datasets.manifest import write_manifest
from cover.runs.plan import plan


def warnings(
    folder: Path,
    classes: Sequence[str] = ("run", "swim"),
    labels: Sequence[int] = (0, 1) * 8,
    dataset: Mapping[str, Any] = {},
    **sections: Mapping[str, Any],
) -> list[str]:
    """What is warned of in a recipe of one dataset, "moves", with 4 steps an epoch and 20 epochs unless changed."""
    rows = [{"sample_id": str(row), "path": f"{row}.mp4", "label": label} for row, label in enumerate(labels)]
    file = folder / "moves.arrow"
    write_manifest(file, rows, name="moves", kind="video", split="train", class_names=list(classes), root=folder)
    values: dict[str, Any] = {"data": {"batch_size": 4}, "model": {"variant": "timesformer_tiny", "depth": 1}}
    datasets = {"moves": {"train": str(file), **dataset}}
    return list(plan(parse_recipe({"policy": "standard", "datasets": datasets} | values | sections, "test")).warnings)


def test_an_ordinary_recipe_has_no_warning(tmp_path: Path) -> None:
    assert warnings(tmp_path, classes=("rightly bright", "cleft")) == []


def test_classes_that_mirroring_swaps_are_named(tmp_path: Path) -> None:
    classes = ("Pulling something from left to right", "turn_Left", "run", "swim", "jump-right", "to the right")
    labels = list(range(6)) * 2
    assert warnings(tmp_path, classes, labels) == [
        "datasets.moves.horizontal_flip = true mirrors half of the clips, and 4 classes name left or right ('Pulling "
        "something from left to right', 'turn_Left', 'jump-right', …); set it to false, or set mirror_pairs"
    ]
    assert warnings(tmp_path, classes, labels, dataset={"horizontal_flip": False}) == []
    pairs = [["turn_Left", "jump-right"], [classes[0], "to the right"]]
    assert warnings(tmp_path, classes, labels, dataset={"mirror_pairs": pairs}) == []
    (warning,) = warnings(tmp_path, classes, labels, dataset={"mirror_pairs": pairs[:1]})
    assert "2 classes name left or right ('Pulling something from left to right', 'to the right')" in warning


def test_classes_without_a_sample_and_heads_of_one_class_are_named(tmp_path: Path) -> None:
    assert warnings(tmp_path, ("run", "swim", "fly"), [0, 1] * 4) == [
        "datasets.moves: 1 of 3 classes have no training sample ('fly'), so they are never predicted; check "
        "data.exclude, or index the dataset without them"
    ]
    assert warnings(tmp_path, ("run",), [0] * 8) == [
        "datasets.moves has one class, 'run', so its loss is always 0 and its head learns nothing; leave it out, or "
        "index it with more classes"
    ]


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_steps_that_cut_the_schedule_off_are_named(tmp_path: Path, schedule: str) -> None:
    last = {"step": "0.005", "cosine": "0.0043"}[schedule]
    assert warnings(tmp_path, training={"max_steps": 20}, optimizer={"schedule": schedule}) == [
        "training.max_steps = 20 ends the run after 5 of 20 epochs and does not shorten the schedule, so the learning "
        f"rate ends at {last}; set training.epochs = 5 to shorten both"
    ]
    assert warnings(tmp_path, training={"max_steps": 80}, optimizer={"schedule": schedule}) == []


def test_drops_after_the_end_are_named(tmp_path: Path) -> None:
    drops = {"drop_epochs": [2, 10, 14.5]}
    assert warnings(tmp_path, training={"epochs": 10}, optimizer=drops) == [
        "optimizer.drop_epochs has 10, 14.5, and training.epochs = 10, so the learning rate never drops there; leave "
        "drop_epochs out, or set it to earlier epochs"
    ]
    assert warnings(tmp_path, training={"epochs": 10}, optimizer=drops | {"schedule": "cosine"}) == [
        "optimizer.drop_epochs belongs to schedule 'step', and optimizer.schedule = 'cosine' has none; leave "
        "drop_epochs out, or change the schedule"
    ]
    assert warnings(tmp_path, training={"epochs": 10}) == []
