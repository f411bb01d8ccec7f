"""Runs that train a part of the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.runs.tiny import IMAGES, VIDEOS, MakeRecipe, quiet
from torch import Tensor

from cover.config.recipe import Recipe
from cover.core.run_files import find_checkpoint
from cover.errors import CheckpointError, RecipeError
from cover.models.checkpoints.integrity import read_state, write_state
from cover.models.classifier import read_model
from cover.runs.plan import plan
from cover.runs.train import train

AVERAGED = {"max_steps": 4, "ema_decay": 0.5}


def weights(run: Path) -> Mapping[str, Tensor]:
    return load_file(find_checkpoint(run, "latest") / "model.safetensors")


def frozen_recipe(recipe_of: MakeRecipe, pretrained: Path) -> Recipe:
    """All of the weights would change: they decay, and those that are saved are averages."""
    patterns = ["patch_embed.*", "blocks.0.norm?.*", "norm.bias"]
    optimizer = {"freeze": patterns, "weight_decay": 0.5, "decay_all": True}
    return recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained, optimizer=optimizer, training=AVERAGED)


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


def test_layers_that_init_lacks_learn_at_the_full_rate(recipe_of: MakeRecipe, pretrained: Path, tmp_path: Path) -> None:
    """A step from an image model changes its temporal layers as without layer decay, and the others less."""
    optimizers = {
        "whole": {"layer_decay": 1.0},
        "decay": {"layer_decay": 0.5},
        "fresh": {"layer_decay": 0.5, "fresh_at_full_rate": True},
    }
    for name, optimizer in optimizers.items():
        recipe = recipe_of("cotrain", VIDEOS, init=pretrained, optimizer=optimizer, training={"max_steps": 1})
        console = quiet()
        assert not train(plan(recipe), tmp_path / name, console)
    assert "at the full rate: blocks.*.temporal_norm1, blocks.*.temporal_attn.qkv," in console.file.getvalue()  # type: ignore[attr-defined]
    whole, decay, fresh = (weights(tmp_path / name) for name in optimizers)
    changed = {name for name in whole if not torch.equal(whole[name], decay[name])}
    assert "blocks.0.temporal_fc.weight" in changed and "blocks.0.mlp.fc1.weight" in changed
    for name in changed:
        assert torch.equal(fresh[name], (whole if "temporal" in name or name == "time_embed" else decay)[name]), name

    checkpoint = find_checkpoint(tmp_path / "fresh", "latest")
    state = {key: value for key, value in read_state(checkpoint).items() if key not in ("files", "sizes_bytes")}
    assert {name for name in whole if "temporal" in name} | {"time_embed"} == {*state.pop("fresh")}
    (checkpoint / "state.json").unlink()
    write_state(checkpoint, state)  # as an older version
    with pytest.raises(CheckpointError, match=r"optimizer.fresh_at_full_rate: .* does not say what its init had"):
        train(plan(recipe), tmp_path / "fresh", quiet(), resume=True)


def test_adapters_learn_and_checkpoints_have_an_ordinary_model(
    recipe_of: MakeRecipe, pretrained: Path, tmp_path: Path
) -> None:
    """Adapted weights change by a matrix of that rank; what learns whole changes; nothing else does."""
    lora = {"rank": 2, "targets": ["*.attn.qkv", "*.fc1"], "train": ["norm.*"]}
    recipe = recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained, optimizer={"lora": lora}, training=AVERAGED)
    assert not train(plan(recipe), tmp_path / "run", quiet())
    before, after = weights(pretrained), read_model(find_checkpoint(tmp_path / "run")).state_dict()
    for name, tensor in after.items():
        if name in before and not name.startswith("heads"):
            adapted = bool(re.search(r"\.(attn\.qkv|fc1)\.weight", name))
            assert torch.equal(tensor, before[name]) != (adapted or name.startswith("norm.")), name
            assert not adapted or torch.linalg.matrix_rank(tensor - before[name], rtol=1e-3) == 2, name
    factors = 2 * (2 * (48 + 3 * 48) + 2 * (48 + 4 * 48))
    heads = sum(tensor.numel() for name, tensor in after.items() if name.startswith("heads"))
    assert plan(recipe).num_trained == factors + heads + 2 * 48
    assert plan(recipe).num_parameters == sum(tensor.numel() for tensor in after.values())
    plain = recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained)
    with pytest.raises(CheckpointError, match="fits no parameter of this model; resume with the recipe that it was"):
        train(plan(plain), tmp_path / "run", quiet(), resume=True)


def test_averages_that_begin_on_resume_include_adapters(
    recipe_of: MakeRecipe, pretrained: Path, tmp_path: Path
) -> None:
    """At a rate of 0, the weights and their averages stay as they were."""

    def settings(max_steps: int, rank: int = 2, rate: float = 0.0, **training: float) -> Recipe:
        optimizer = {"lora": {"rank": rank}, "learning_rate": rate}
        training = {"max_steps": max_steps, **training}
        return recipe_of("cotrain", IMAGES, init=pretrained, optimizer=optimizer, training=training)

    run = tmp_path / "run"
    assert not train(plan(settings(1, rate=0.5)), run, quiet())
    before = weights(run)
    assert not train(plan(settings(2, ema_decay=0.9)), run, quiet(), resume=True)
    for name, tensor in weights(run).items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-6)
    with pytest.raises(CheckpointError, match="rank 4 and alpha 16, but the adapters of this run have rank 2 and"):
        train(plan(settings(3, rank=4)), run, quiet(), resume=True)
