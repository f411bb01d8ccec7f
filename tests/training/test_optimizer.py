from __future__ import annotations

import re

import pytest
import torch

from cover.models.create import create_model
from cover.recipe import OptimizerSection
from cover.training.optimizer import create_optimizer, learning_rate

PAPER = OptimizerSection()


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(0, 5e-3), (9.999, 5e-3), (10.0, 5e-4), (13.999, 5e-4), (14.0, 5e-5), (19.999, 5e-5)],
)
def test_default_schedule_is_the_papers(epoch: float, rate: float) -> None:
    """§4.1: 5e-3, a tenth of it at epoch 11 and again at epoch 15, counted from 1."""
    assert learning_rate(PAPER, epoch, num_epochs=20) == pytest.approx(rate, rel=1e-12)


def test_cosine_falls_from_the_rate_to_zero() -> None:
    cosine = OptimizerSection(schedule="cosine", learning_rate=0.8)
    rates = [learning_rate(cosine, epoch, num_epochs=10) for epoch in (0, 2.5, 5, 10, 10.5)]
    assert rates == pytest.approx([0.8, 0.4 * (1 + 0.5**0.5), 0.4, 0, 0], abs=1e-12)


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_warm_up_rises_from_zero_and_meets_the_schedule(schedule: str) -> None:
    section = OptimizerSection.model_validate({"schedule": schedule, "learning_rate": 0.8, "warmup_epochs": 2.0})
    rates = [learning_rate(section, epoch, num_epochs=10) for epoch in (0, 0.5, 1, 2)]
    assert rates == pytest.approx([0, 0.2, 0.4, 0.8])
    assert learning_rate(section, 10, num_epochs=10) == pytest.approx(0 if schedule == "cosine" else 0.08)


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_weights_of_linear_and_convolution_layers_alone_decay(name: str, kind: type[torch.optim.Optimizer]) -> None:
    model = create_model("timesformer_tiny", depth=1, width=12, num_frames=2, image_size=32, heads={"k400": 3})
    section = OptimizerSection.model_validate({"name": name, "weight_decay": 0.3})
    optimizer = create_optimizer(model, section)
    decays = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    decayed = {name for name, parameter in model.named_parameters() if decays.pop(parameter) == 0.3}
    assert isinstance(optimizer, kind) and not decays
    modules = {name: module for name, module in model.named_modules()}
    layers = {name for name, module in modules.items() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)}
    assert decayed == {f"{layer}.weight" for layer in layers}
    assert not [name for name in decayed if re.search("norm|embed$|token|bias", name)]


def test_paper_optimizer_is_sgd_with_momentum_without_nesterov() -> None:
    optimizer = create_optimizer(torch.nn.Linear(2, 2), PAPER)
    group = optimizer.param_groups[0]
    assert isinstance(optimizer, torch.optim.SGD)
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (5e-3, 0.9, False, 1e-4)
