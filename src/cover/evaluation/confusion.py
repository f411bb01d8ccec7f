"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cover.evaluation.result import DatasetResult


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


def most_confused(result: DatasetResult, count: int) -> list[Confusion]:
    """The `count` most frequent confusions, by number of samples and then by their share of the true class."""
    return [
        Confusion(
            result.class_names[label],
            result.class_names[predicted],
            result.confusion[label][predicted],
            sum(result.confusion[label]),
        )
        for label, predicted in _pairs(result)[:count]
    ]


def confused_labels(result: DatasetResult, count: int) -> list[int]:
    """Up to `count` labels, those of the most frequent confusions, in label order."""
    chosen: dict[int, None] = {}
    for pair in _pairs(result):
        if len(chosen.keys() | set(pair)) > count:
            break
        chosen |= dict.fromkeys(pair)
    return sorted(chosen)


def _pairs(result: DatasetResult) -> Sequence[tuple[int, int]]:
    """(true, predicted) labels of all confusions, the most frequent first."""
    counts = np.array(result.confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.fill_diagonal(counts, 0)
    labels, predicted = np.nonzero(counts)
    order = np.lexsort((-shares[labels, predicted], -counts[labels, predicted]))
    return [(int(labels[place]), int(predicted[place])) for place in order]
