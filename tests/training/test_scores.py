from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cover.config.training_sections import BestSection
from cover.errors import DecodeError
from cover.training.packed_batch import HeadLoss
from cover.training.scores import ScoreSums, best_score, mean_average_precision, validation_scores


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


def average_precision(applies: list[bool], scores: list[float]) -> float:
    """As scikit-learn's average_precision_score, from its definition: a threshold for each distinct score."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        found = [truth for truth, score in zip(applies, scores, strict=True) if score >= threshold]
        recall = sum(found) / sum(applies)
        total, before = total + (recall - before) * sum(found) / len(found), recall
    return total


@pytest.mark.parametrize("digits", [1, 6], ids=["ties", "no ties"])
def test_mean_average_precision_equals_its_definition(digits: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(200, 9, generator=generator).double().round(decimals=digits)
    applies = torch.rand(200, 9, generator=generator) < 0.2
    applies[:, 4] = False  # a class without a sample does not count
    each = [average_precision(applies[:, c].tolist(), scores[:, c].tolist()) for c in range(9) if c != 4]
    assert mean_average_precision(scores, applies) == pytest.approx(sum(each) / 8, abs=1e-9)


def test_an_answer_is_right_if_it_is_one_of_the_classes() -> None:
    sums = ScoreSums(7, HeadLoss("bce", 7))
    logits = torch.tensor([[0.0, 3, 2, 0, 0, 0, 0], [9.0, 8, 7, 6, 5, 4, -1]])
    classes = torch.tensor([[1.0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1]])
    sums.add(logits, torch.tensor([0, 5]), classes)
    scores = sums.scores()
    assert (scores["top1"], scores["top5"]) == (0.5, 0.5)
    expected = F.binary_cross_entropy_with_logits(logits, classes, reduction="none").mean(1).mean()
    assert scores["loss"] == pytest.approx(float(expected))


def test_a_validation_without_a_sample_is_refused_by_name() -> None:
    counted = ScoreSums(2)
    counted.add(torch.eye(2), torch.tensor([0, 0]))
    assert validation_scores({"k400": counted})["k400"]["top1"] == 0.5
    with pytest.raises(DecodeError, match="no validation sample of ssv2 can be decoded; `cover check` its manifest"):
        validation_scores({"k400": counted, "ssv2": ScoreSums(3)})
