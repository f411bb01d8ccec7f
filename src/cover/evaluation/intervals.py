"""How sure a measured number is: 95 % intervals of accuracies over samples, and of means over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

Z_95 = 1.959964
T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""97.5 % quantiles of Student's t for 1, 2, … 30 degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.2)."""


@dataclass(frozen=True)
class Estimate:
    """A measured value and its 95 % interval, as fractions."""

    value: float
    lower: float
    upper: float


def share(value: float, num_samples: int) -> Estimate:
    """Give a share of n independent samples its Wilson score interval (E. B. Wilson, JASA 22, 1927).

    Args:
        value: The share, from 0 to 1.
        num_samples: n, at least 1.
    """
    z2 = Z_95**2
    centre = (value + z2 / (2 * num_samples)) / (1 + z2 / num_samples)
    half_width = Z_95 / (1 + z2 / num_samples) * sqrt(value * (1 - value) / num_samples + z2 / (4 * num_samples**2))
    # The formula gives exactly 0 or 1 at the ends; rounding must not go past them.
    return Estimate(value, max(centre - half_width, 0.0), min(centre + half_width, 1.0))


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Compute `second - first` with the hybrid score interval of R. G. Newcombe (Statist. Med. 17, 1998, method 10).

    The formula takes the two as independent. Two models tested on the same samples mostly agree, so the interval is
    rather too wide than too narrow.
    """
    value = second.value - first.value
    below = sqrt((second.value - second.lower) ** 2 + (first.upper - first.value) ** 2)
    above = sqrt((second.upper - second.value) ** 2 + (first.value - first.lower) ** 2)
    return Estimate(value, value - below, value + above)


@dataclass(frozen=True)
class SeedMean:
    """A mean over seeds, as a fraction. Its 95 % interval is value ± half_width; half_width is None for one seed.

    Seeds differ in the initial heads (and temporal layers), the order of samples, and augmentation. All seeds share the
    training and test samples, so the interval covers the mean of further seeds, not that of other test clips.
    """

    value: float
    half_width: float | None


def seed_mean(values: Iterable[float]) -> SeedMean | None:
    """Compute the mean of up to 31 values with its Student t interval; None if there are no values."""
    known = list(values)
    if len(known) < 2:
        return SeedMean(known[0], None) if known else None
    return SeedMean(fmean(known), T_975[len(known) - 2] * stdev(known) / sqrt(len(known)))


def paired_difference(values: Mapping[int, float], others: Mapping[int, float]) -> SeedMean | None:
    """Compute the mean of `values - others` over the seeds that both have; None if they share none.

    Pairs with the same seed share whatever the seed decides for both, so their difference varies less.
    """
    return seed_mean(values[seed] - others[seed] for seed in values if seed in others)
