"""Decide which dataset each slot of a batch, or each whole batch, belongs to: exact shares, in integers only.

    weights 2 : 1 : 1     slots  0 1 2 0 | 0 1 2 0 | …      repeats every sum(weights) / gcd(weights) slots

A batch is a run of consecutive slots. A dataset whose share is below one clip a batch therefore occurs every few
batches, and rounding errors never accumulate.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np

from cover.mixture.shuffle import hash_63bit, permute

_NEAR = 1000
"""Slots up to which walking is cheaper than jumping."""


class BalancedSequence:
    """An endless sequence over m datasets whose running totals never deviate from their shares by a whole slot.

    After t slots, dataset i with share w_i / W has received n_i of them, where |n_i - t·w_i / W| <= 1 - 1 / (2m - 2).
    This is the best possible bound (R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32, 1980). The
    bound gives the first slot at which a dataset may be served next (its release) and the last slot by which it must be
    (its deadline). Each slot goes to the released dataset with the earliest deadline.

    Reading forward is cheap. A jump takes as long as the rarest dataset's slots are apart, whatever the period.

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
        self._jump(0)

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

    def _seek(self, position: int) -> None:
        if not 0 <= position - self._position <= _NEAR:
            self._jump(position)
        while self._position < position:
            self._advance()

    def _jump(self, position: int) -> None:
        """Move to a position without walking there.

        A dataset has been served as often as its deadlines say, and possibly once more if it is released. Let X(d) be
        the number of such open slots with a deadline behind d that were served. Slots that are due earlier never wait
        for them. So they were served when nothing else was released, and by the formula for the output of a queue
        (D. V. Lindley, 1952) X(d) is the maximum over s <= position of E(s) - B(s). E(s) counts the open slots behind d
        that are released by s, and B(s) is the number of all slots released by s, less s.
        """
        weights, margin, period = self._weights, self._margin, self.period
        self._position = position
        self._counts = [-(((margin - 1) * period - position * w * margin) // (period * margin)) for w in weights]
        self._windows = [self._window(dataset) for dataset in range(len(weights))]
        is_open = [release <= position for release, _ in self._windows]
        by_deadline = sorted((deadline, dataset) for dataset, (_, deadline) in enumerate(self._windows))
        last_first = [dataset for _, dataset in reversed(by_deadline) if is_open[dataset]]
        if not last_first:
            return
        earlier = np.arange(position - min(self._windows[dataset][0] for dataset in last_first) + 1)
        waiting = earlier + sum(map(int.__add__, self._counts, is_open)) - position  # B(position - earlier)
        for weight in weights:
            rest = (position * weight * margin - period) % (period * margin)
            waiting += (rest - earlier * (weight * margin)) // (period * margin)
        released, served = np.zeros_like(earlier), 0
        for dataset in last_first:
            released += earlier <= position - self._windows[dataset][0]
            before, served = served, max(served, int((released - waiting).max()))
            self._counts[dataset] += served - before
        self._windows = [self._window(dataset) for dataset in range(len(weights))]

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


class ShuffledRounds:
    """The slots of a balanced sequence in random order within rounds, each of which keeps its counts.

    Args:
        sequence: Says how many slots of a round each dataset has.
        length: Slots of a round.
        key: Selects the orders. Each round has its own.
    """

    def __init__(self, sequence: BalancedSequence, length: int, key: int) -> None:
        self._sequence = sequence
        self._length = length
        self._key = key

    def slot(self, number: int) -> tuple[int, int]:
        """Return the dataset of a slot, and which of that dataset's slots in the balanced sequence this one is."""
        number_of_round, place = divmod(number, self._length)
        key = hash_63bit(self._key, number_of_round)
        balanced = number_of_round * self._length + permute(place, self._length, key)
        counts = self._sequence.counts(balanced)
        [dataset] = self._sequence.slots(balanced, balanced + 1)
        return dataset, counts[dataset]
