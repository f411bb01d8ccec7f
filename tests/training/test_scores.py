from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cover.config.recipe import BestSection
from cover.training.scores import ScoreSums, best_score


def random_scores(num_samples: int, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_samples, num_classes, generator=generator)
    labels = torch.randint(num_classes, (num_samples,), generator=generator)
    return logits, labels


def balanced_accuracy(labels: list[int], predicted: list[int]) -> float:
    """As scikit-learn's balanced_accuracy_score: the mean recall of the classes that occur."""
    recalls = []
    for label in sorted(set(labels)):
        own = [answer == label for truth, answer in zip(labels, predicted, strict=True) if truth == label]
        recalls.append(sum(own) / len(own))
    return sum(recalls) / len(recalls)


def test_scores_equal_their_definitions_however_the_samples_are_divided() -> None:
    logits, labels = random_scores(300, 23)
    labels[labels == 5] = 6  # a class without a sample
    parts = [ScoreSums(23) for _ in range(3)]
    for number, part in enumerate(parts):
        part.add(logits[number::3], labels[number::3])
    sums = ScoreSums(23)
    sums.sums = torch.stack([part.sums for part in parts]).sum(0)
    scores = sums.scores()
    assert sums.num_samples == 300
    assert scores["top1"] == float((logits.argmax(1) == labels).double().mean())
    assert scores["top5"] == float((logits.topk(5).indices == labels[:, None]).any(1).double().mean())
    expected = balanced_accuracy(labels.tolist(), logits.argmax(1).tolist())
    assert scores["mean_class"] == pytest.approx(expected, abs=1e-9)
    assert scores["loss"] == pytest.approx(float(F.cross_entropy(logits.double(), labels)), rel=1e-12)


def test_logits_that_are_not_finite_are_wrong_and_few_classes_have_no_top5() -> None:
    sums = ScoreSums(2)
    sums.add(torch.tensor([[float("nan"), 0.0], [1.0, 0.0]]), torch.tensor([0, 0]))
    assert sums.scores()["top1"] == 0.5 and "top5" not in sums.scores()


def test_the_best_score_is_a_weighted_mean_and_the_lowest_loss() -> None:
    scores = {"a": {"top1": 0.2, "loss": 3.0}, "b": {"top1": 0.8, "loss": 1.0}}
    assert best_score(scores, BestSection()) == 0.5
    assert best_score(scores, BestSection(weights={"a": 3.0, "b": 1.0})) == pytest.approx(0.35)
    assert best_score(scores, BestSection(measure="loss", weights={"b": 1.0})) == -1.0
