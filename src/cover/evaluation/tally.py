"""Running counts of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor

from cover.errors import RecipeError
from cover.evaluation.result import Predictions

PROBABILITY_DIGITS = 6
"""What a result keeps of a probability."""


class Measured(TypedDict):
    """The fields of a DatasetResult that come from counting."""

    num_samples: int
    top1: float
    top5: float | None
    confusion: tuple[tuple[int, ...], ...]
    num_pair_samples: int
    pair_accuracy: float | None
    predictions: Predictions


class Tally:
    """Sample ids, logits [B,classes] and labels [B] in; accuracies and predictions out.

    partners: int64 [classes], see pair_partners.
    """

    def __init__(self, partners: Tensor) -> None:
        # With SciPy and transformers installed, this takes seconds, and most who import this module count nothing.
        from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

        num_classes = len(partners)
        self.partners = partners
        # One process evaluates; by default compute() would wait for all the others.
        alone: dict[str, Any] = {"num_classes": num_classes, "sync_on_compute": False}
        self.top1 = MulticlassAccuracy(average="micro", **alone)
        self.top5 = MulticlassAccuracy(average="micro", top_k=5, **alone) if num_classes >= 6 else None
        self.confusion = MulticlassConfusionMatrix(**alone)
        self.sample_ids: list[str] = []
        self.labels: list[int] = []
        self.predicted: list[int] = []
        self.probabilities: list[float] = []
        self.num_pair_samples = 0
        self.num_pairs_right = 0.0

    @property
    def num_samples(self) -> int:
        return len(self.sample_ids)

    def update(self, sample_ids: Sequence[str], logits: Tensor, labels: Tensor) -> None:
        """Count one batch."""
        for metric in filter(None, (self.top1, self.top5, self.confusion)):
            metric.update(logits, labels)
        probabilities, predicted = logits.softmax(-1).max(-1)
        self.sample_ids += sample_ids
        self.labels += labels.tolist()
        self.predicted += predicted.tolist()
        self.probabilities += [round(probability, PROBABILITY_DIGITS) for probability in probabilities.tolist()]
        paired = self.partners[labels] >= 0
        logits, labels = logits[paired], labels[paired]
        own, partner = (logits.gather(1, index[:, None]) for index in (labels, self.partners[labels]))
        self.num_pair_samples += len(labels)
        self.num_pairs_right += float(torch.heaviside(own - partner, torch.tensor(0.5)).sum())  # a tie is half right

    def measured(self) -> Measured:
        """The accuracies over everything counted, which must be at least one sample."""
        return Measured(
            num_samples=self.num_samples,
            top1=float(self.top1.compute()),
            top5=None if self.top5 is None else float(self.top5.compute()),
            confusion=tuple(map(tuple, self.confusion.compute().tolist())),
            num_pair_samples=self.num_pair_samples,
            pair_accuracy=self.num_pairs_right / self.num_pair_samples if self.num_pair_samples else None,
            predictions=Predictions(
                tuple(self.sample_ids), tuple(self.labels), tuple(self.predicted), tuple(self.probabilities)
            ),
        )


def pair_partners(class_names: Sequence[str], reversal_pairs: Sequence[tuple[str, str]]) -> Tensor:
    """For each class the label of its reversal partner, -1 where it has none: int64 [classes].

    Raises RecipeError for a name that is no class.
    """
    labels = {class_name: label for label, class_name in enumerate(class_names)}
    partners = torch.full((len(labels),), -1)
    for pair in reversal_pairs:
        for class_name in pair:
            if class_name not in labels:
                raise RecipeError(
                    f"reversal_pairs names {class_name!r}, which is no class of the dataset; its classes are "
                    + ", ".join(labels)
                )
        first, second = (labels[class_name] for class_name in pair)
        partners[first], partners[second] = second, first
    return partners
