"""Whether a model is right as often as its probabilities say.

The formulas are those of Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, §2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cover.evaluation.result import Predictions

NUM_BINS = 15


@dataclass(frozen=True)
class Bin:
    """The samples whose probability is in one part of 0..1: their mean probability and top-1, None without samples."""

    num_samples: int
    probability: float | None
    top1: float | None


@dataclass(frozen=True)
class Calibration:
    """How well probabilities match accuracies.

    Attributes:
        bins: Equal parts ((m − 1) / M, m / M] of 0..1, from low to high.
        expected_error: The expected calibration error (Eq. 3): Σ |bin| / n · |top-1 of the bin − its mean probability|.
        overconfidence: The mean probability of all samples minus their top-1.
    """

    bins: tuple[Bin, ...]
    expected_error: float
    overconfidence: float


def calibrate(predictions: Predictions, num_bins: int = NUM_BINS) -> Calibration:
    """Calibrate the probabilities of the most probable classes, over at least one sample."""
    probabilities = np.array(predictions.probabilities)
    correct = np.array(predictions.predicted) == np.array(predictions.labels)
    # An upper edge belongs to its bin. A largest probability is never 0, but 0 would go into the first bin.
    numbers = np.clip(np.ceil(probabilities * num_bins).astype(int) - 1, 0, num_bins - 1)
    counts = np.bincount(numbers, minlength=num_bins)
    sums = np.bincount(numbers, probabilities, num_bins)
    rights = np.bincount(numbers, correct, num_bins)
    bins = [
        Bin(int(count), float(total / count), float(right / count)) if count else Bin(0, None, None)
        for count, total, right in zip(counts, sums, rights, strict=True)
    ]
    return Calibration(
        bins=tuple(bins),
        expected_error=float(np.abs(rights - sums).sum() / len(correct)),
        overconfidence=float(probabilities.mean() - correct.mean()),
    )
