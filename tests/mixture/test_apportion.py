from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cover.mixture.apportion import BalancedSequence

WEIGHTS = st.lists(st.integers(1, 40), min_size=1, max_size=20)


@given(weights=WEIGHTS)
def test_running_totals_stay_within_one_slot_of_their_shares(weights: list[int]) -> None:
    sequence = BalancedSequence(weights)
    bound = 1 - Fraction(1, max(2 * len(weights) - 2, 1))
    totals = [0] * len(weights)
    for num_slots, dataset in enumerate(sequence.slots(0, min(2 * sequence.period, 300)), start=1):
        totals[dataset] += 1
        for total, weight in zip(totals, weights, strict=True):
            assert abs(total - Fraction(num_slots * weight, sum(weights))) <= bound


@given(weights=WEIGHTS, num_periods=st.integers(0, 3))
def test_a_period_holds_every_dataset_exactly(weights: list[int], num_periods: int) -> None:
    sequence = BalancedSequence(weights)
    expected = [num_periods * sequence.period * weight // sum(weights) for weight in weights]
    assert sequence.counts(num_periods * sequence.period) == expected


@given(weights=WEIGHTS, reads=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 30)), min_size=1, max_size=5))
def test_jumping_anywhere_reads_what_walking_there_reads(weights: list[int], reads: list[tuple[int, int]]) -> None:
    walked = BalancedSequence(weights).slots(0, 530)
    sequence = BalancedSequence(weights)
    for start, length in reads:
        assert sequence.slots(start, start + length) == walked[start : start + length]
        assert sequence.counts(start) == [walked[:start].count(dataset) for dataset in range(len(weights))]


@given(
    weights=st.lists(st.integers(1, 10**6), min_size=1, max_size=20),
    position=st.integers(0, 10**12),
    length=st.integers(0, 1000),
)
def test_far_jumps_fit_together(weights: list[int], position: int, length: int) -> None:
    """A walk from one jump arrives where another jump leads, within a slot of the shares."""
    here, there = BalancedSequence(weights), BalancedSequence(weights)
    counts = here.counts(position)
    for dataset in here.slots(position, position + length):
        counts[dataset] += 1
    assert counts == there.counts(position + length)
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - Fraction((position + length) * weight, sum(weights))) < 1


def test_a_share_of_one_in_a_million_comes_up_once() -> None:
    assert BalancedSequence([49_999, 1]).slots(0, 50_000).count(1) == 1


@pytest.mark.parametrize("weights", [[], [3, 0], [-1]])
def test_weights_must_be_positive(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="positive integers"):
        BalancedSequence(weights)
