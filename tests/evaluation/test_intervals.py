from __future__ import annotations

import pytest

from cover.evaluation.intervals import difference, share


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
