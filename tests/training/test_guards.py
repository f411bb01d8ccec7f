from __future__ import annotations

import logging
import math

import pytest
import torch
from accelerate import Accelerator

from cover.core.batch import ClipBatch, MixedBatch
from cover.errors import TrainingError
from cover.training.guards import GROWTH, NUM_BEFORE, SPIKE, LossSpikeMonitor, NonFiniteGuard
from cover.training.objective import StepOutput
from cover.training.packed_batch import PackedBatch, clip_sums

DATASETS = {"k400": 1.0, "ssv2": 1.0}


def micro_batch(dataset: str, names: tuple[str, ...]) -> PackedBatch:
    clips = torch.zeros(1, len(names), 3, 8, 8, dtype=torch.uint8)
    zeros = torch.zeros(len(names), dtype=torch.int64)
    batch = MixedBatch({dataset: ClipBatch(dataset, clips, zeros, names, zeros)}, DATASETS, 0)
    return PackedBatch.of(batch, DATASETS, torch.device("cpu"))


def answered(dataset: str, names: tuple[str, ...], logits: list[list[float]]) -> tuple[PackedBatch, StepOutput]:
    """A micro-batch of one dataset. The head of the other dataset answers it with infinity, which does not matter."""
    batch, infinite = micro_batch(dataset, names), torch.full((len(names), 2), math.inf)
    answers = [torch.tensor(logits) if name == dataset else infinite for name in DATASETS]
    return batch, StepOutput(torch.tensor(1.0), *clip_sums(answers, torch.zeros(2), batch))


def test_a_step_that_is_not_finite_is_named_with_its_samples_one_step_later() -> None:
    watch = NonFiniteGuard(Accelerator(cpu=True))
    good, bad = [[1.0, 2.0]] * 2, [[1.0, float("nan")], [1.0, 2.0]]
    watch.add(*answered("k400", ("k400/a", "k400/b"), good))
    watch.add(*answered("ssv2", ("ssv2/c", "ssv2/d"), bad))
    watch.end_step(6, torch.tensor(float("nan")))
    with pytest.raises(TrainingError) as caught:
        watch.end_step(7, torch.tensor(1.0))
    assert str(caught.value).startswith("step 6: the loss of 1 of 4 clips is not a finite number: ssv2/c; lower ")


def test_gradients_without_a_sample_to_blame() -> None:
    watch = NonFiniteGuard(Accelerator(cpu=True))
    watch.add(*answered("k400", ("k400/a",), [[1.0, 2.0]]))
    watch.end_step(1, torch.tensor(float("inf")))
    with pytest.raises(TrainingError, match="step 1: the gradients are not finite, though all losses are"):
        watch.check()
    watch.check()  # once is enough


def test_a_jump_of_the_loss_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    watch = LossSpikeMonitor(first_step=100)
    for step in range(NUM_BEFORE):
        watch.see(step, 1.0, 0.1)
    watch.see(NUM_BEFORE, 0.99 * SPIKE, 0.1)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        watch.see(NUM_BEFORE + 1, 1.01 * SPIKE, 0.1)
    assert caplog.messages == [f"step {NUM_BEFORE + 1}: the loss has jumped to 3.03 from about 1"]


@pytest.mark.parametrize("first_step", [0, 50])
def test_a_loss_that_grows_from_the_start_is_warned_of_once(caplog: pytest.LogCaptureFixture, first_step: int) -> None:
    watch = LossSpikeMonitor(first_step)
    for step, loss in enumerate((2.0, 1.9 * GROWTH, 2.1 * GROWTH, 3 * GROWTH), start=1):
        watch.see(first_step + step, loss, 0.5)
    grown = ["the loss has grown from 2 to 4.2 by step 3; a learning rate of 0.5 may be too high"]
    assert caplog.messages == ([] if first_step else grown)
