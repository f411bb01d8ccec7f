"""Decide which dataset each slot of a batch belongs to: exact shares, in integers only.

    weights 2 : 1 : 1     slots  0 1 2 0 | 0 1 2 0 | …      repeats every sum(weights) / gcd(weights) slots

A batch is a run of consecutive slots. A dataset whose share is below one clip a batch therefore occurs every few
batches, and rounding errors never accumulate.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd


class BalancedSequence:
    """An endless sequence over m datasets whose running totals never deviate from their shares by a whole slot.

    After t slots, dataset i with share w_i / W has received n_i of them, where |n_i - t·w_i / W| <= 1 - 1 / (2m - 2).
    This is the best possible bound (R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32, 1980). The
    bound gives the first slot at which a dataset may be served next (its release) and the last slot by which it must be
    (its deadline). Each slot goes to the released dataset with the earliest deadline.

    Reading forward is cheap. Going back or jumping replays at most one period of sum(weights) / gcd(weights) slots.

    Args:
        weights: The relative share of each dataset.

    Raises:
        ValueError: There are no weights, or one is not a positive integer.
    """

    def __init__(self, weights: Sequence[int]) -> None:
        if not weights or min(weights) < 1:
            raise ValueError(f"weights are {list(weights)}; a balanced sequence takes one or more positive integers")
        divisor = gcd(*weights)
        self._weights = [weight // divisor for weight in weights]
        self._margin = max(2 * len(weights) - 2, 1)
        self.period = sum(self._weights)
        self._rewind()

    def counts(self, num_slots: int) -> list[int]:
        """Return how many of the first `num_slots` slots each dataset receives."""
        num_periods, rest = divmod(num_slots, self.period)
        self._seek(rest)
        return [num_periods * weight + count for weight, count in zip(self._weights, self._counts, strict=True)]

    def slots(self, start: int, stop: int) -> list[int]:
        """Return the dataset of each slot in [start, stop)."""
        datasets = []
        for slot in range(start, stop):
            self._seek(slot % self.period)
            datasets.append(self._advance())
        return datasets

    def _rewind(self) -> None:
        self._position = 0
        self._counts = [0] * len(self._weights)
        self._windows = [self._window(dataset) for dataset in range(len(self._weights))]

    def _seek(self, position: int) -> None:
        if position < self._position:
            self._rewind()
        while self._position < position:
            self._advance()

    def _advance(self) -> int:
        """Serve the next slot and return its dataset."""
        self._position += 1
        _, dataset = min(
            (deadline, dataset)
            for dataset, (release, deadline) in enumerate(self._windows)
            if release <= self._position
        )
        self._counts[dataset] += 1
        self._windows[dataset] = self._window(dataset)
        return dataset

    def _window(self, dataset: int) -> tuple[int, int]:
        """Return the release and the deadline of a dataset.

        They are numbers of slots that have passed when it is served next. Release is the first t with t·w/W - n >=
        1/margin, deadline the last t with t·w/W - n <= 1 - 1/margin.
        """
        weight, earlier = self._weights[dataset] * self._margin, self._counts[dataset] * self._margin
        return -(-self.period * (earlier + 1) // weight), self.period * (earlier + self._margin - 1) // weight
