"""Whether a model is right as often as its probabilities say (Guo et al., "On Calibration of Modern Neural Networks",
ICML 2017, §2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cover.evaluation.result import Predictions

NUM_BINS = 15


@dataclass(frozen=True)
class Bin:
    """The samples whose probability is in a part of 0..1. Mean probability and top-1, None where there are none."""

    num_samples: int
    probability: float | None
    top1: float | None


@dataclass(frozen=True)
class Calibration:
    """bins: equal parts ((m − 1) / M, m / M] of 0..1, from low to high.

    expected_error: the expected calibration error, Eq. 3: Σ |bin| / n · |top-1 of the bin − its mean probability|.
    overconfidence: mean probability of all samples minus their top-1.
    """

    bins: tuple[Bin, ...]
    expected_error: float
    overconfidence: float


def calibrate(predictions: Predictions, num_bins: int = NUM_BINS) -> Calibration:
    """The calibration of the probabilities given to the most probable classes, of at least one sample."""
    probabilities = np.array(predictions.probabilities)
    correct = np.array(predictions.predicted) == np.array(predictions.labels)
    # Upper edges belong to their bin; a probability of 0 cannot be the largest, but goes into the first.
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
