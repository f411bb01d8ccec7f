"""Which weights an objective trains; tests/runs trains with each of them."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe
from cover.models.classifier import VideoClassifier
from cover.models.create import create_model
from cover.training.engine import Engine
from cover.training.objective import FeatureHeads, Objective, Probe, Supervised

DATASETS = {"blocks": 3, "pets": 2}
"""A dataset may be called like a part of the backbone."""


def recipe(policy: str) -> Recipe:
    values: dict[str, Any] = {"policy": policy, "datasets": {name: {"train": "none.arrow"} for name in DATASETS}}
    return parse_recipe(values | {"optimizer": {"layer_decay": 0.5}, "init": "weights"}, "test")


def interrupted(*_: object) -> signal.Signals:
    return signal.SIGTERM


def model() -> VideoClassifier:
    return create_model("timesformer_tiny", depth=1, width=12, num_heads=1, num_frames=2, image_size=32, heads=DATASETS)


@pytest.mark.parametrize("policy", ["cotrain", "probe"])
def test_a_probe_trains_the_heads_and_others_all_weights(policy: str) -> None:
    settings = recipe(policy)
    objective: Objective = Probe(settings, interrupted) if policy == "probe" else Supervised(settings)
    engine = Engine(model(), objective, settings, Accelerator(cpu=True))
    groups = engine.optimizer.param_groups
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    names = {name for name, parameter in engine.model.named_parameters() if id(parameter) in trained}
    every = {name for name, _ in engine.model.named_parameters()}
    heads = {name for name in every if name.startswith("heads.")}
    assert names == (heads if policy == "probe" else every) and len(heads) == 4
    assert max(group["lr"] for group in groups) == settings.optimizer.learning_rate


def test_every_head_answers_every_feature() -> None:
    logits = FeatureHeads(model().heads)(torch.zeros(5, 12))
    assert {name: tuple(values.shape) for name, values in logits.items()} == {"blocks": (5, 3), "pets": (5, 2)}
