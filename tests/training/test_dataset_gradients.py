"""Rules for the gradients of several datasets, against their definitions on random vectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cover.config.training_sections import OptimizerSection
from cover.training.dataset_gradients import Measurement, factors

NAMES = ("a", "b", "c", "d")


def random_gradients(seed: int) -> Tensor:
    """Float64 [4, 6], of quite different norms, some of which conflict."""
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    return gradients * torch.tensor([[0.1], [1.0], [3.0], [10.0]])


def combined(gradients: Tensor, weights: tuple[float, ...] = (1, 1, 1, 1), **settings: Any) -> Tensor:
    """Each gradient times its factor."""
    generator = torch.Generator().manual_seed(0)
    return gradients * factors(gradients @ gradients.T, OptimizerSection(**settings), weights, generator)[:, None]


def test_balanced_gradients_have_the_norms_that_the_weights_ask_for() -> None:
    gradients = random_gradients(0)
    gradients[1] = 0  # no clip in this step
    norms = combined(gradients, (2.0, 5.0, 1.0, 1.0), balance="gradient_norm").norm(dim=1)
    mean = gradients.norm(dim=1)[[0, 2, 3]].mean()
    torch.testing.assert_close(norms, mean * torch.tensor([2, 0, 1, 1]) / (4 / 3))


def test_each_dataset_is_clipped_by_itself() -> None:
    gradients = random_gradients(0)
    before, after = gradients.norm(dim=1), combined(gradients, clip_dataset_norm=2.0).norm(dim=1)
    torch.testing.assert_close(after, before.clamp(max=2.0))


@pytest.mark.parametrize("seed", range(5))
def test_pcgrad_is_its_published_algorithm(seed: int) -> None:
    gradients = random_gradients(seed)
    order = torch.Generator().manual_seed(0)
    expected = torch.zeros(6, dtype=torch.float64)
    for own in range(4):
        projected = gradients[own].clone()
        for other in torch.randperm(4, generator=order).tolist():
            if other != own and projected @ gradients[other] < 0:
                projected -= projected @ gradients[other] / gradients[other].square().sum() * gradients[other]
        expected += projected
    torch.testing.assert_close(combined(gradients, balance="pcgrad").sum(0), expected)


def test_two_gradients_that_conflict_no_longer_do_and_others_are_only_added() -> None:
    first, second = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    update = combined(torch.stack([first, second]), (1, 1), balance="pcgrad").sum(0)
    assert update @ first >= 0 and update @ second >= 0
    agreeing = torch.stack([first, -second])
    assert torch.equal(combined(agreeing, (1, 1), balance="pcgrad"), agreeing)


def test_shares_say_whose_gradient_the_update_is() -> None:
    gradients = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    measured = Measurement(("a", "b", "c"), gradients @ gradients.T, torch.ones(3, dtype=torch.float64), 0.5).metrics()
    assert measured == {
        "norm": {"a": 3.0, "b": 1.0},
        "share": {"a": 0.9, "b": 0.1},
        "cosine": {"a": {"b": 0.0}},
        "seconds": 0.5,
    }
