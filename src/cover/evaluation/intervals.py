"""How sure a measured accuracy is: 95 % intervals for shares of n independent samples."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

Z_95 = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A measured value and its 95 % interval, as fractions."""

    value: float
    lower: float
    upper: float


def share(value: float, num_samples: int) -> Estimate:
    """A share of num_samples, with its Wilson score interval (E. B. Wilson, JASA 22, 1927)."""
    z2 = Z_95**2
    centre = (value + z2 / (2 * num_samples)) / (1 + z2 / num_samples)
    half_width = Z_95 / (1 + z2 / num_samples) * sqrt(value * (1 - value) / num_samples + z2 / (4 * num_samples**2))
    # Rounding must not carry an end past 0 or 1, which the formula gives exactly for a share of none or all.
    return Estimate(value, max(centre - half_width, 0.0), min(centre + half_width, 1.0))


def difference(first: Estimate, second: Estimate) -> Estimate:
    """`second - first`, with Newcombe's hybrid score interval (R. G. Newcombe, Statist. Med. 17, 1998, method 10).

    The two are taken as independent. Two models tested on the same samples mostly agree, so the interval errs on the
    wide side.
    """
    value = second.value - first.value
    below = sqrt((second.value - second.lower) ** 2 + (first.upper - first.value) ** 2)
    above = sqrt((second.upper - second.value) ** 2 + (first.value - first.lower) ** 2)
    return Estimate(value, value - below, value + above)
