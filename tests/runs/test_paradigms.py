"""Runs by other training paradigms than the paper's: one dataset a step, and the projection loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.runs.tiny import IMAGES, VIDEOS, MakeRecipe, lines_of, quiet
from tests.terminal import printed

from cover.config.recipe import Recipe
from cover.core.run_files import find_checkpoint
from cover.errors import RecipeError
from cover.runs import measurements
from cover.runs.dry_run import plan_table
from cover.runs.plan import plan
from cover.runs.train import create, train
from cover.training.objective import Supervised

NAMES = VIDEOS + IMAGES
TURNS: dict[str, Any] = {
    "data": {"batches": "one_dataset"},
    "options": {"jumps": {"batch_size": 4}, "pets": {"batch_size": 8, "learning_rate_factor": 0.5}},
}
PARADIGMS: dict[str, dict[str, Any]] = {
    "one_dataset": TURNS,
    "projections": {"training": {"projection_weight": 1.0}, "optimizer": {"balance": "pcgrad"}},
}


def recipe(recipe_of: MakeRecipe, paradigm: dict[str, Any], **training: Any) -> Recipe:
    shared = {"evaluate_every_epochs": 9, "max_steps": 4, "ema_decay": 0.5}
    changes = paradigm | {"training": paradigm.get("training", {}) | shared | training}
    return recipe_of("cotrain", NAMES, **changes)


def trained(settings: Recipe, run: Path, **options: Any) -> Path:
    assert not train(plan(settings), run, quiet(), **options)
    return run


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in lines_of(run) if "loss" in line]


def tensors(run: Path) -> dict[str, torch.Tensor]:
    folder = find_checkpoint(run, "latest")
    return load_file(folder / "model.safetensors") | load_file(folder / "training.safetensors")


@pytest.mark.parametrize("name", PARADIGMS)
def test_a_run_resumes_exactly_and_holds_for_any_micro_batches(
    name: str, recipe_of: MakeRecipe, tmp_path: Path
) -> None:
    whole = trained(recipe(recipe_of, PARADIGMS[name]), tmp_path / "whole")
    saved = load_file(find_checkpoint(whole, "latest") / "model.safetensors")
    assert not [key for key in saved if "->" in key]
    assert not train(plan(recipe(recipe_of, PARADIGMS[name], max_steps=2)), tmp_path / "two", quiet())
    two = trained(recipe(recipe_of, PARADIGMS[name]), tmp_path / "two", resume=True)
    assert losses(two) == losses(whole)
    assert tensors(two).keys() == tensors(whole).keys()
    assert all(torch.equal(tensors(two)[key], tensor) for key, tensor in tensors(whole).items())
    split = trained(recipe(recipe_of, PARADIGMS[name], micro_batches=3), tmp_path / "split")
    assert losses(split) == pytest.approx(losses(whole), rel=1e-4)


def test_a_step_has_clips_of_one_dataset_and_its_learning_rate(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    """The first step has images. Without momentum and decay, it changes the weights by the factor times as much."""
    plain = {"momentum": 0.0, "weight_decay": 0.0, "schedule": "step"}
    runs = {}
    for factor, max_steps in ((1.0, 1), (0.25, 2)):
        settings = recipe_of(
            "cotrain",
            NAMES,
            data={"batches": "one_dataset"},
            options={"jumps": {"batch_size": 4}, "pets": {"batch_size": 8, "learning_rate_factor": factor}},
            optimizer=plain,
            training={"max_steps": max_steps, "save_every": 1},
        )
        runs[factor] = trained(settings, tmp_path / str(factor))
    first, second = (line for line in lines_of(runs[0.25]) if "loss" in line)
    assert {name: row["clips"] for name, row in first["datasets"].items()} == {"pets": 8}
    assert {name: row["clips"] for name, row in second["datasets"].items()} == {"jumps": 4}
    assert (first["learning_rate"], second["learning_rate"]) == (0.05 / 4, 0.05)
    before = create(plan(settings)).state_dict()
    whole, quarter = (load_file(run / "checkpoints/step-1/model.safetensors") for run in runs.values())
    for name, weights in before.items():
        assert torch.allclose(quarter[name] - weights, (whole[name] - weights) / 4, rtol=1e-3, atol=1e-7), name
    assert not torch.equal(whole["heads.pets.weight"], before["heads.pets.weight"])
    assert torch.equal(whole["heads.jumps.weight"], before["heads.jumps.weight"])


def test_a_dry_run_shows_projections(recipe_of: MakeRecipe) -> None:
    planned = plan(recipe(recipe_of, PARADIGMS["projections"]))
    assert planned.num_trained == planned.num_parameters
    shown = " ".join(printed(plan_table(planned), width=300).split())
    assert "projection loss weight 1; its maps between heads have 24 weights beside the model" in shown
    assert "projection" not in printed(plan_table(plan(recipe_of("cotrain", NAMES))), width=300)


def test_projections_of_removed_datasets_and_changed_classes_start_anew(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    """At a rate of 0, the others stay as they were."""

    def settings(datasets: list[str], max_steps: int, weight: float = 1.0) -> Recipe:
        training = {"projection_weight": weight, "max_steps": max_steps}
        return recipe_of("cotrain", datasets, optimizer={"learning_rate": 0.0}, training=training)

    run = trained(settings(NAMES, 1), tmp_path / "run")
    before = {key: tensor for key, tensor in tensors(run).items() if "weights/projections." in key}
    assert len(before) == 6
    trained(settings(VIDEOS, 2), run, resume=True, allow_changed_data=True)
    kept = {key: tensor for key, tensor in tensors(run).items() if "weights/projections." in key}
    assert kept.keys() == {f"weights/projections.{pair}.weight" for pair in ("jumps->turns", "turns->jumps")}
    assert all(tensor.equal(before[key]) for key, tensor in kept.items())
    trained(settings(VIDEOS, 3, weight=0.0), run, resume=True)
    assert not [key for key in tensors(run) if "projections" in key]


def test_a_small_batch_of_one_dataset_does_not_make_clips_too_expensive_to_time(
    recipe_of: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan(recipe(recipe_of, TURNS))
    a_clip = planned.step_flops / sum(row.clips_per_batch for row in planned.rows)
    monkeypatch.setattr(measurements, "MAX_CLIP_FLOPS", 1.01 * a_clip)
    assert isinstance(planned.objective, Supervised) and measurements.step_time(planned, planned.objective)


def test_a_dry_run_shows_the_turns(recipe_of: MakeRecipe) -> None:
    planned = plan(recipe(recipe_of, TURNS))
    shown = " ".join(printed(plan_table(planned), width=300).split())
    assert (
        "one dataset a step; an epoch has 3 of 4 clips of jumps, 1.333 of 6 clips of turns, 1.25 of 8 clips of pets at "
        "0.5 times the learning rate, in random order"
    ) in shown
    assert planned.steps_per_epoch == pytest.approx(3 + 4 / 3 + 1.25)
    assert "weights of 0.537 for jumps (0.25 a clip)" in shown


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"options": {"jumps": {"batch_size": 4}}},
            "datasets.jumps.batch_size is of steps of that dataset alone, and data.batches = 'mixed' has none; set "
            'data.batches = "one_dataset", or leave it out',
        ),
        (
            {"options": {"pets": {"learning_rate_factor": 0.1}}},
            "datasets.pets.learning_rate_factor is of steps of that dataset alone, and data.batches = 'mixed' has "
            'none; set data.batches = "one_dataset", or leave it out',
        ),
        (
            TURNS | {"training": {"reduction": "pooled"}},
            "training.reduction = 'pooled' weighs datasets of one step, and data.batches = 'one_dataset' has one in "
            "each; leave reduction out",
        ),
        (
            TURNS | {"optimizer": {"balance": "pcgrad"}},
            "optimizer.balance = 'pcgrad' shares a step between datasets, and data.batches = 'one_dataset' has one in "
            "each; leave balance out",
        ),
        (
            TURNS | {"augmentation": {"repeats": 3}},
            "datasets.jumps.batch_size 4 does not hold every sample 3 times (augmentation.repeats); make it a multiple "
            "of 3",
        ),
    ],
)
def test_keys_that_contradict_a_paradigm_are_refused(
    recipe_of: MakeRecipe, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of("cotrain", NAMES, **changes)
    assert expected in str(caught.value)
