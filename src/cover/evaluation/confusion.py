"""Which classes are confused with which. Only pairs that occur are counted, not a table of all classes by all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cover.evaluation.result import DatasetResult

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class PairCounts:
    """How often each true label gets each predicted label, for the P pairs that occur.

    Attributes:
        labels, predicted, counts: int64 [P], in label order.
        class_sizes: Samples of each of the C classes, int64 [C].
    """

    labels: Integers
    predicted: Integers
    counts: Integers
    class_sizes: Integers

    @property
    def shares(self) -> NDArray[np.float64]:
        """`counts` as shares of their true class, float64 [P]."""
        return self.counts / self.class_sizes[self.labels]

    def most_confused(self) -> Integers:
        """Indices of the pairs of two different labels: by count, then by share of the class."""
        wrong = np.flatnonzero(self.labels != self.predicted)
        return wrong[np.lexsort((-self.shares[wrong], -self.counts[wrong]))]


@dataclass(frozen=True)
class Confusion:
    """`count` of the `num_samples` samples of one class are predicted as another class."""

    true_class: str
    predicted_class: str
    count: int
    num_samples: int

    @property
    def share(self) -> float:
        """The share of the true class."""
        return self.count / self.num_samples


def count_pairs(result: DatasetResult) -> PairCounts:
    """Count the pairs of a result, from its predictions or from the matrix that older versions wrote."""
    num_classes = len(result.class_names)
    if result.predictions:
        labels, predicted = np.array(result.predictions.labels), np.array(result.predictions.predicted)
        pairs, counts = np.unique(labels * num_classes + predicted, return_counts=True)
        labels, predicted = np.divmod(pairs, num_classes)
    else:
        matrix = np.array(result.confusion)
        labels, predicted = np.nonzero(matrix)
        counts = matrix[labels, predicted]
    class_sizes = np.zeros(num_classes, np.int64)
    np.add.at(class_sizes, labels, counts)
    return PairCounts(labels, predicted, counts, class_sizes)


def most_confused(result: DatasetResult, count: int) -> list[Confusion]:
    """Find the `count` most frequent confusions, by number of samples and then by their share of the true class."""
    pairs = count_pairs(result)
    return [
        Confusion(
            result.class_names[pairs.labels[place]],
            result.class_names[pairs.predicted[place]],
            int(pairs.counts[place]),
            int(pairs.class_sizes[pairs.labels[place]]),
        )
        for place in pairs.most_confused()[:count]
    ]


def confused_labels(pairs: PairCounts, count: int) -> list[int]:
    """Find up to `count` labels of the most frequent confusions, in label order."""
    chosen: set[int] = set()
    for place in pairs.most_confused():
        both = {int(pairs.labels[place]), int(pairs.predicted[place])}
        if len(chosen | both) > count:
            break
        chosen |= both
    return sorted(chosen)


def confusion_shares(pairs: PairCounts, labels: Sequence[int]) -> NDArray[np.float64]:
    """Make the confusion matrix of L classes, as shares of the true class.

    Returns:
        float64 [L, L + 1]; the last column has all other classes together.
    """
    place_of = np.full(len(pairs.class_sizes), len(labels))
    place_of[labels] = np.arange(len(labels))
    shares = np.zeros((len(labels) + 1, len(labels) + 1))
    np.add.at(shares, (place_of[pairs.labels], place_of[pairs.predicted]), pairs.shares)
    return shares[:-1]
