"""Accuracies of an evaluation, counted batch by batch, and the most probable classes of single samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from cover.errors import CheckpointError, RecipeError
from cover.evaluation.intervals import Estimate, share
from cover.evaluation.result import DatasetResult, Predictions
from cover.training.packed_batch import ONE_CLASS, HeadLoss
from cover.training.scores import ScoreSums, answered_labels

PROBABILITY_DIGITS = 6
"""Decimals of a probability in a result."""


class Measured(TypedDict):
    """The fields of a DatasetResult that EvalMetrics counts."""

    num_samples: int
    top1: float
    top5: float | None
    mean_class: float | None
    mean_average_precision: float | None
    loss: float
    num_pair_samples: int
    pair_accuracy: float | None
    predictions: Predictions


class EvalMetrics:
    """Turns sample ids, logits and labels into accuracies and predictions.

    Its memory grows with the number of samples, not with the number of classes.

    Args:
        partners: int64 [classes], see `pair_partners`.
        loss: Of the head, which says what its probabilities are, see `class_probabilities`.
    """

    def __init__(self, partners: Tensor, loss: HeadLoss = ONE_CLASS) -> None:
        self.partners = partners
        self.sample_ids: list[str] = []
        self.labels: list[int] = []
        self.predicted: list[int] = []
        self.probabilities: list[float] = []
        self.sums = ScoreSums(len(partners), loss)
        self.num_pair_samples = 0
        self.num_pairs_right = 0.0

    @property
    def num_samples(self) -> int:
        """Samples counted so far."""
        return len(self.sample_ids)

    def update(self, sample_ids: Sequence[str], logits: Tensor, labels: Tensor, classes: Tensor | None = None) -> None:
        """Count one batch.

        Args:
            sample_ids: B ids.
            logits: float [B,classes].
            labels: int64 [B].
            classes: Float [B,classes], how much each class applies, of multi-label samples. Their label is then the
                class of theirs with the largest logit.

        Raises:
            CheckpointError: Logits are not finite, so there is no accuracy.
        """
        if not (finite := logits.isfinite().all(-1)).all():
            raise CheckpointError(
                f"the logits of sample {sample_ids[int(finite.int().argmin())]} are not finite; "
                'choose another checkpoint, or set training.precision = "fp32" in the run\'s recipe'
            )
        predicted = logits.argmax(-1)
        shares = class_probabilities(logits, self.sums.head.kind == "bce")
        probabilities = shares.gather(1, predicted[:, None])[:, 0]
        self.sums.add(logits, labels, classes)
        labels = labels if classes is None else answered_labels(logits, classes)
        self.sample_ids += sample_ids
        self.labels += labels.tolist()
        self.predicted += predicted.tolist()
        self.probabilities += [round(probability, PROBABILITY_DIGITS) for probability in probabilities.tolist()]
        self._count_reversals(logits, labels)

    def _count_reversals(self, logits: Tensor, labels: Tensor) -> None:
        paired = self.partners[labels] >= 0
        logits, labels = logits[paired], labels[paired]
        own, partner = (logits.gather(1, index[:, None]) for index in (labels, self.partners[labels]))
        self.num_pair_samples += len(labels)
        self.num_pairs_right += float(torch.heaviside(own - partner, torch.tensor(0.5)).sum())  # a tie is half right

    def measured(self) -> Measured:
        """The accuracies so far, over at least one sample."""
        scores = self.sums.scores()
        return Measured(
            num_samples=self.num_samples,
            top1=scores["top1"],
            top5=scores.get("top5"),
            mean_class=scores.get("mean_class"),
            mean_average_precision=scores.get("map"),
            loss=scores["loss"],
            num_pair_samples=self.num_pair_samples,
            pair_accuracy=self.num_pairs_right / self.num_pair_samples if self.num_pair_samples else None,
            predictions=Predictions(
                tuple(self.sample_ids), tuple(self.labels), tuple(self.predicted), tuple(self.probabilities)
            ),
        )


def pair_partners(class_names: Sequence[str], reversal_pairs: Sequence[tuple[str, str]]) -> Tensor:
    """Look up the label of each class's reversal partner.

    Returns:
        int64 [classes], -1 for a class without a partner.

    Raises:
        RecipeError: A name is not a class.
    """
    labels = {class_name: label for label, class_name in enumerate(class_names)}
    partners = torch.full((len(labels),), -1)
    for pair in reversal_pairs:
        for class_name in pair:
            if class_name not in labels:
                raise RecipeError(
                    f"reversal_pairs names {class_name!r}, which is not a class of the dataset; its classes are "
                    + ", ".join(labels)
                )
        first, second = (labels[class_name] for class_name in pair)
        partners[first], partners[second] = second, first
    return partners


def all_right(results: Sequence[DatasetResult]) -> Estimate:
    """How often all heads on the same clips are right, such as the actions of EPIC-Kitchens: verb and noun.

    Args:
        results: Of each head, with predictions for the same samples.
    """
    predictions = [result.predictions for result in results if result.predictions]
    right = np.all([np.equal(own.labels, own.predicted) for own in predictions], axis=0)
    return share(float(right.mean()), len(right))


RankedClasses = tuple[tuple[str, float], ...]
"""(class name, probability), the most probable class first."""


def class_probabilities(logits: Tensor, is_sigmoid: bool) -> Tensor:
    """Turn logits [..., classes] into probabilities.

    Args:
        logits: Of one head.
        is_sigmoid: Whether the head was trained with binary cross-entropy, see ModelConfig.sigmoid_heads. Then the
            probabilities of different classes say nothing about each other; else they add up to 1.
    """
    return logits.sigmoid() if is_sigmoid else logits.softmax(-1)


def top_classes(probabilities: Tensor, class_names: Sequence[str], num_shown: int) -> RankedClasses:
    """The `num_shown` most probable classes (all, if there are fewer) of probabilities [classes]."""
    best = probabilities.topk(min(num_shown, len(class_names)))
    return tuple(
        (class_names[label], probability)
        for label, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    )
