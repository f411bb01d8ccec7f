"""A run folder of an earlier version of the code: it is evaluated, used, continued and exported as its own version did.

old_run/make.py says how it was made. Do not make it again with newer code.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.runs.tiny import quiet

import cover
from cover.config.recipe_files import read_recipe
from cover.runs.folder import RunFolder
from cover.runs.plan import plan
from cover.runs.train import train
from cover.runs.trained import TrainedRun

PROBABILITIES = {"left/4.mp4": 0.5009714, "right/5.mp4": 0.5128034}
"""Of the class left."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(Path(__file__).parent / "old_run", tmp_path / "old")


def test_it_is_evaluated_and_predicts_as_before(folder: Path) -> None:
    trained = TrainedRun.open(folder / "run")
    result = trained.evaluate("clips", trained.manifest("clips", "val"), "normal")
    assert (result.checkpoint, result.top1) == ("step-4", 0.5)
    assert result.predictions is not None
    assert result.predictions.probabilities == pytest.approx(list(PROBABILITIES.values()), abs=1e-4)
    for prediction in cover.predict(folder / "run", folder / "clips" / "val"):
        expected = PROBABILITIES[f"{prediction.file.parent.name}/{prediction.file.name}"]
        assert dict(prediction.heads["clips"])["left"] == pytest.approx(expected, abs=1e-4)


def test_it_is_continued(folder: Path) -> None:
    recipe = read_recipe(folder / "recipe.toml", ["training.max_steps=6"])
    assert not train(plan(recipe), folder / "run", quiet(), resume=True)
    state = json.loads((folder / "run" / "checkpoints" / "step-6" / "state.json").read_text())
    assert (state["step"], state["mixture_start"]) == (6, 0)
    assert (
        len((folder / "run" / "metrics.jsonl").read_text().splitlines()) == 6 + 3
    )  # a line a step, and one a validation
    assert RunFolder(folder / "run").read_recipe().training.max_steps == 6


def test_it_is_exported(folder: Path, tmp_path: Path) -> None:
    model = cover.load_model(folder / "run" / "checkpoints" / "step-4")
    model.save_pretrained(tmp_path / "exported")
    exported = cover.load_model(tmp_path / "exported").state_dict()
    assert all(torch.equal(tensor, exported[name]) for name, tensor in model.state_dict().items())
