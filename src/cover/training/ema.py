"""The exponential moving average of the weights (EMA), which evaluates better than the last weights themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from cover.training.parallel import local


class ModelEMA:
    """average ← decay · average + (1 − decay) · weights, after each step.

    The decay begins lower, min(decay, (1 + step) / (10 + step)), so that the first weights are soon forgotten (the
    rule of TensorFlow's ExponentialMovingAverage). Of sharded weights every process averages its own part.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._weights = [local(parameter.detach()) for parameter in model.parameters()]
        self._averages = [weights.clone() for weights in self._weights]

    def update(self, step: int) -> None:
        """Take in the weights after `step` completed steps."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._weights, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While entered, the model has the averages for its weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for weights, average in zip(self._weights, self._averages, strict=True):
            kept = weights.clone()
            weights.copy_(average)
            average.copy_(kept)
