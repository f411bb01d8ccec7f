from __future__ import annotations

import pytest
import torch

from cover.errors import CheckpointError, RecipeError
from cover.evaluation.metrics import EvalMetrics, pair_partners


def test_accuracies_equal_counting_by_hand() -> None:
    logits = torch.randn(40, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 7
    tally = EvalMetrics(torch.full((7,), -1))
    ids = [str(number) for number in range(40)]
    tally.update(ids[:25], logits[:25], labels[:25])
    tally.update(ids[25:], logits[25:], labels[25:])
    measured = tally.measured()
    ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
    assert measured["num_samples"] == 40
    assert measured["top1"] == pytest.approx((ranks == 0).float().mean().item())
    assert measured["top5"] == pytest.approx((ranks < 5).float().mean().item())
    assert measured["pair_accuracy"] is None
    predictions = measured["predictions"]
    assert predictions.sample_ids == tuple(ids) and predictions.labels == tuple(labels.tolist())
    assert predictions.predicted == tuple(logits.argmax(1).tolist())
    assert predictions.probabilities == pytest.approx(logits.softmax(1).max(1).values.tolist(), abs=1e-6)


def test_pair_accuracy_looks_at_the_two_logits_of_a_clips_own_pair_alone() -> None:
    tally = EvalMetrics(pair_partners(["left", "right", "still"], [("left", "right")]))
    logits = torch.tensor([[2.0, 1.0, 9.0], [2.0, 1.0, 9.0], [0.0, 0.0, 9.0], [5.0, 0.0, 1.0]])
    tally.update("abcd", logits, torch.tensor([0, 1, 1, 2]))  # own pair: right, wrong, tie; "still" has none
    measured = tally.measured()
    assert measured["num_pair_samples"] == 3
    assert measured["pair_accuracy"] == pytest.approx(0.5)
    assert measured["top5"] is None


def test_a_model_that_says_the_same_of_everything_is_no_better_than_chance() -> None:
    tally = EvalMetrics(torch.full((10,), -1))
    tally.update([str(number) for number in range(10)], torch.zeros(10, 10), torch.arange(10))
    assert (tally.measured()["top1"], tally.measured()["top5"]) == (0.1, 0.5)


def test_one_class_is_counted_too() -> None:
    tally = EvalMetrics(torch.full((1,), -1))
    tally.update("ab", torch.tensor([[2.0], [-3.0]]), torch.tensor([0, 0]))
    measured = tally.measured()
    assert (measured["top1"], measured["top5"], measured["predictions"].probabilities) == (1.0, None, (1.0, 1.0))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_no_answer(number: float) -> None:
    tally = EvalMetrics(torch.full((2,), -1))
    with pytest.raises(CheckpointError, match="the logits of sample b are not finite; choose another"):
        tally.update("ab", torch.tensor([[1.0, 0.0], [number, 1.0]]), torch.tensor([0, 0]))
    assert tally.num_samples == 0


def test_a_pair_of_unknown_classes_is_refused() -> None:
    with pytest.raises(RecipeError, match="reversal_pairs names 'up', which is not a class of the dataset"):
        pair_partners(["left", "right"], [("left", "up")])
