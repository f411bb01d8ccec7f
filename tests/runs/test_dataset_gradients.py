"""Runs whose datasets' gradients are measured or combined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.runs.tiny import IMAGES, VIDEOS, MakeRecipe, lines_of, quiet

from cover.config.recipe import Recipe
from cover.core.run_files import find_checkpoint
from cover.runs.compare import compare_runs, read_run_records
from cover.runs.dry_run import gradients_line
from cover.runs.plan import plan
from cover.runs.train import train
from cover.runs.trained import TrainedRun

NAMES = VIDEOS + IMAGES
NUM_STEPS = 4
BALANCES: dict[str, dict[str, Any]] = {
    "gradient_norm": {"balance": "gradient_norm"},
    "pcgrad": {"balance": "pcgrad"},
    "clipping": {"clip_dataset_norm": 0.05},
}


def recipe(recipe_of: MakeRecipe, optimizer: dict[str, Any], **training: Any) -> Recipe:
    shared = {"evaluate_every_epochs": 2, "max_steps": NUM_STEPS}
    return recipe_of("cotrain", NAMES, optimizer=optimizer, training=shared | training)


def trained(settings: Recipe, run: Path, **options: Any) -> Path:
    assert not train(plan(settings), run, quiet(), **options)
    return run


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in lines_of(run) if "loss" in line]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(find_checkpoint(run, "latest") / "model.safetensors")


@pytest.fixture(scope="module")
def plain(recipe_of: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that only adds gradients and measures nothing."""
    return trained(recipe(recipe_of, {}), tmp_path_factory.mktemp("plain") / "run")


def test_measuring_changes_nothing_and_is_shown(
    plain: Path, recipe_of: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(recipe(recipe_of, {}, measure_gradients_every=2), tmp_path / "run")
    assert losses(run) == losses(plain)
    found = [line for line in lines_of(run) if "gradients" in line]
    assert [line["step"] for line in found] == [2, 4]
    for line in found:
        shares, cosines = line["gradients"]["share"], line["gradients"]["cosine"]
        assert shares.keys() == set(NAMES) and sum(shares.values()) == pytest.approx(1, abs=1e-3)
        assert cosines.keys() == set(NAMES[:2]) and all(abs(value) <= 1 for value in cosines["jumps"].values())
    monkeypatch.chdir(tmp_path)
    TrainedRun.open(run).evaluate("jumps", TrainedRun.open(run).manifest("jumps", "val"), "normal")
    assert len(read_run_records([run])[0].gradients) == 2
    compare_runs([run], Path("report.html"), quiet())
    page = Path("report.html").read_text()
    assert "Which dataset owns the update" in page and "pets" in page


def test_gradients_of_the_datasets_add_up_to_that_of_the_step(
    plain: Path, recipe_of: MakeRecipe, tmp_path: Path
) -> None:
    """A limit that is never reached leaves only another way to compute the same."""
    run = trained(recipe(recipe_of, {"clip_dataset_norm": 1e6}), tmp_path / "run")
    assert losses(run) == pytest.approx(losses(plain), rel=1e-5)
    for name, weight in weights(plain).items():
        assert torch.allclose(weights(run)[name], weight, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("name", BALANCES)
def test_combined_gradients_resume_exactly_and_hold_for_any_micro_batches(
    plain: Path, recipe_of: MakeRecipe, tmp_path: Path, name: str
) -> None:
    run = trained(recipe(recipe_of, BALANCES[name], measure_gradients_every=2), tmp_path / "run")
    trained(recipe(recipe_of, BALANCES[name], measure_gradients_every=2, max_steps=3), tmp_path / "two")
    trained(recipe(recipe_of, BALANCES[name], measure_gradients_every=2), tmp_path / "two", resume=True)
    assert losses(tmp_path / "two") == losses(run)
    for key, weight in weights(run).items():
        assert torch.equal(weights(tmp_path / "two")[key], weight), key
    whole = trained(recipe(recipe_of, BALANCES[name], micro_batches=1), tmp_path / "whole")
    assert losses(whole) == pytest.approx(losses(run), rel=1e-3)
    assert losses(plain) != pytest.approx(losses(run), rel=1e-4)


def test_a_dry_run_tells_how_gradients_are_combined(recipe_of: MakeRecipe) -> None:
    assert gradients_line(recipe(recipe_of, {})) == ""
    line = gradients_line(recipe(recipe_of, {}, measure_gradients_every=50))
    assert line == "each dataset's is measured every 50 steps, about 2 % more computation"
    line = gradients_line(recipe(recipe_of, {"balance": "pcgrad", "clip_dataset_norm": 2.0}))
    assert line == "conflicting parts of datasets are taken out (PCGrad); each dataset's is clipped at norm 2"
