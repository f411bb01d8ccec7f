"""Runs that train a part of the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.runs.tiny import IMAGES, LESS, VIDEOS, MakeRecipe, quiet
from torch import Tensor

from cover.config.recipe import Recipe
from cover.core.run_files import find_checkpoint
from cover.errors import RecipeError
from cover.runs.plan import plan
from cover.runs.train import train

NUM_STEPS = 4


def weights(run: Path) -> Mapping[str, Tensor]:
    return load_file(find_checkpoint(run, "latest") / "model.safetensors")


def frozen_recipe(recipe_of: MakeRecipe, pretrained: Path) -> Recipe:
    """All of the weights would change: they decay, and those that are saved are averages."""
    optimizer = LESS | {"weight_decay": 0.5, "decay_all": True}
    training = {"max_steps": NUM_STEPS, "ema_decay": 0.5}
    return recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained, optimizer=optimizer, training=training)


def test_frozen_weights_stay_as_they_are_and_the_others_learn(
    recipe_of: MakeRecipe, pretrained: Path, tmp_path: Path
) -> None:
    recipe = frozen_recipe(recipe_of, pretrained)
    assert not train(plan(recipe), tmp_path / "run", quiet())
    before, after = weights(pretrained), weights(tmp_path / "run")
    frozen = re.compile(r"patch_embed\.|blocks\.0\.norm\d\.|norm\.bias")
    for name, tensor in after.items():
        if name in before and not name.startswith("heads"):
            assert torch.equal(tensor, before[name]) == bool(frozen.match(name)), name
    kept = load_file(find_checkpoint(tmp_path / "run", "latest") / "training.safetensors")
    assert not [key for key in kept if frozen.match(key.rpartition("/")[2])]
    trained = sum(tensor.numel() for name, tensor in after.items() if not frozen.match(name))
    assert plan(recipe).num_trained == trained


def test_gradients_of_shared_weights_need_some_that_learn(recipe_of: MakeRecipe, pretrained: Path) -> None:
    frozen = {"freeze": ["[!h]*"], "balance": "pcgrad"}
    with pytest.raises(RecipeError, match="freezes all weights that datasets share"):
        plan(recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained, optimizer=frozen))
