"""Which classes are taken for which, without a table of all classes against all: only pairs that occur are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cover.evaluation.result import DatasetResult

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class PairCounts:
    """How many samples of each true label are given each predicted label, for the P pairs that occur.

    labels, predicted, counts: int64 [P], in the order of the labels. class_sizes: samples of each class, int64 [C].
    """

    labels: Integers
    predicted: Integers
    counts: Integers
    class_sizes: Integers

    @property
    def shares(self) -> NDArray[np.float64]:
        """float64 [P]: `counts` as shares of their true class."""
        return self.counts / self.class_sizes[self.labels]

    def most_confused(self) -> Integers:
        """Where the pairs of two different labels are, the most frequent first, then by their share of the class."""
        wrong = np.flatnonzero(self.labels != self.predicted)
        return wrong[np.lexsort((-self.shares[wrong], -self.counts[wrong]))]


@dataclass(frozen=True)
class Confusion:
    """How many of the num_samples samples of one class are taken for another one."""

    true_class: str
    predicted_class: str
    count: int
    num_samples: int

    @property
    def share(self) -> float:
        return self.count / self.num_samples


def count_pairs(result: DatasetResult) -> PairCounts:
    """Count the pairs of a result, from its predictions, or from the matrix that older versions kept."""
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
    """The `count` most frequent confusions, by number of samples and then by their share of the true class."""
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
    """Up to `count` labels, those of the most frequent confusions, in label order."""
    chosen: set[int] = set()
    for place in pairs.most_confused():
        both = {int(pairs.labels[place]), int(pairs.predicted[place])}
        if len(chosen | both) > count:
            break
        chosen |= both
    return sorted(chosen)


def confusion_shares(pairs: PairCounts, labels: Sequence[int]) -> NDArray[np.float64]:
    """The confusion matrix of L classes as shares of the true class, [L, L + 1]: the last column is all other classes
    together."""
    place_of = np.full(len(pairs.class_sizes), len(labels))
    place_of[labels] = np.arange(len(labels))
    shares = np.zeros((len(labels) + 1, len(labels) + 1))
    np.add.at(shares, (place_of[pairs.labels], place_of[pairs.predicted]), pairs.shares)
    return shares[:-1]
