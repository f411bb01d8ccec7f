"""How sure a mean over seeds is.

What varies from seed to seed is the training: initial heads (and temporal layers), the order of samples, augmentation.
The samples that are trained on and the test clips are the same for all, so an interval says where the mean of further
seeds may lie, and not that of other clips. Pairs of runs with the same seed share what the seed decides for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""97.5 % quantiles of Student's t for 1, 2, … 30 degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.2)."""


@dataclass(frozen=True)
class SeedMean:
    """A mean over seeds, as a fraction; its 95 % interval is value ± half_width, which one seed does not have."""

    value: float
    half_width: float | None


def mean(values: Iterable[float]) -> SeedMean | None:
    """The mean of up to 31 values with its t-interval; None of no values."""
    known = list(values)
    if len(known) < 2:
        return SeedMean(known[0], None) if known else None
    return SeedMean(fmean(known), T_975[len(known) - 2] * stdev(known) / sqrt(len(known)))


def paired_difference(values: Mapping[int, float], others: Mapping[int, float]) -> SeedMean | None:
    """`values - others`, both by seed, over the seeds that both have; None where they share none."""
    return mean(values[seed] - others[seed] for seed in values if seed in others)
