from __future__ import annotations

import pytest
import torch
from torch import nn

from cover.training.engine import ModelEMA


def test_the_average_follows_its_recursion_with_a_lower_decay_at_first() -> None:
    layer = nn.Linear(2, 2)
    average = ModelEMA(layer, decay=0.5)
    expected = layer.weight.detach().clone()
    for step in range(1, 13):
        with torch.no_grad():
            layer.weight.add_(step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))  # 2 / 11, 3 / 12, …; 0.5 from step 8 on
        expected = decay * expected + (1 - decay) * layer.weight.detach()
    raw = layer.weight.detach().clone()
    with average.in_place():
        torch.testing.assert_close(layer.weight.detach(), expected)
    assert torch.equal(layer.weight, raw)


def test_the_weights_come_back_after_an_error() -> None:
    layer = nn.Linear(2, 2)
    average = ModelEMA(layer, decay=0.9)
    with torch.no_grad():
        layer.weight.add_(1)
    raw = layer.weight.detach().clone()
    with pytest.raises(KeyboardInterrupt), average.in_place():
        assert not torch.equal(layer.weight, raw)
        raise KeyboardInterrupt
    assert torch.equal(layer.weight, raw)
