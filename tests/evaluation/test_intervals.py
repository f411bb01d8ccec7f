from __future__ import annotations

from math import exp, lgamma, pi, sqrt

import numpy as np
import pytest

from cover.evaluation.intervals import T_975, SeedMean, difference, paired_difference, seed_mean, share


def test_wilson_interval_of_a_published_example() -> None:
    # 81 of 263 (Newcombe 1998, Statist. Med. 17:857, table I, method 3): 0.2553 to 0.3662
    estimate = share(81 / 263, 263)
    assert (estimate.lower, estimate.upper) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_interval_stays_within_zero_and_one() -> None:
    for num_samples in range(1, 300):  # rounding carries some of them past the end: 200 showed "-0.0"
        assert 0 <= share(0.0, num_samples).lower < 1e-12
        assert 1 - 1e-12 < share(1.0, num_samples).upper <= 1


def test_difference_of_a_published_example() -> None:
    # 56/70 − 48/80 (Newcombe 1998, Statist. Med. 17:873, table II, method 10): 0.0524 to 0.3339
    estimate = difference(share(48 / 80, 80), share(56 / 70, 70))
    assert (estimate.value, estimate.lower, estimate.upper) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def probability_between(half_width: float, degrees: int) -> float:
    """That Student's t is within ± half_width: its density, summed."""
    scale = exp(lgamma((degrees + 1) / 2) - lgamma(degrees / 2)) / sqrt(degrees * pi)
    t = np.linspace(-half_width, half_width, 100_001)
    return float(np.trapezoid(scale * (1 + t**2 / degrees) ** (-(degrees + 1) / 2), t))


def test_quantiles_are_right_to_three_decimals() -> None:
    assert len(T_975) == 30
    for degrees, quantile in enumerate(T_975, start=1):
        assert (
            probability_between(quantile - 0.00051, degrees) < 0.95 < probability_between(quantile + 0.00051, degrees)
        )


def test_mean_of_three_seeds() -> None:
    # standard deviation 0.02; 4.303 · 0.02 / √3 = 0.04969
    estimate = seed_mean([0.70, 0.72, 0.74])
    assert estimate is not None and estimate.half_width is not None
    assert (estimate.value, estimate.half_width) == pytest.approx((0.72, 0.04969), abs=5e-6)


def test_one_seed_has_no_interval_and_none_no_mean() -> None:
    assert seed_mean([0.7]) == SeedMean(0.7, None)
    assert seed_mean([]) is None


def test_differences_are_paired_by_the_seeds_that_both_have() -> None:
    # 0.03, 0.02 and 0.04 although the values overlap; 4.303 · 0.01 / √3 = 0.02484
    estimate = paired_difference({2: 0.78, 0: 0.73, 1: 0.74, 7: 0.1}, {0: 0.70, 1: 0.72, 2: 0.74, 8: 0.9})
    assert estimate is not None and estimate.half_width is not None
    assert (estimate.value, estimate.half_width) == pytest.approx((0.03, 0.02484), abs=5e-6)
    assert paired_difference({0: 0.5}, {1: 0.5}) is None
