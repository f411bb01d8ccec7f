"""Shuffled orders without memory: any entry of an order at once, so that no list is kept and none is rebuilt."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from math import isqrt

import numpy as np
import numpy.typing as npt

_NUM_ROUNDS = 8
"""Rounds of the Feistel network in `permute`."""


class EvenClasses:
    """An endless order of a dataset's rows in which every class comes equally often (class-balanced sampling).

    Positions are divided into rounds, which have one row of each class, in an order of their own. Each class has its
    own shuffled order, which is new every time its rows have been read. Classes without rows are left out.

    Args:
        labels: The label of each row.
        key: Selects the order.
    """

    def __init__(self, labels: npt.NDArray[np.int32], key: int) -> None:
        by_class = np.argsort(labels, kind="stable")
        self._rows = np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1)
        self._key = key

    def row(self, position: int) -> tuple[int, int]:
        """Return how often the row at a position was read before, and the row."""
        num_classes = len(self._rows)
        number, place = divmod(position, num_classes)
        present = permute(place, num_classes, hash_63bit(self._key, "round", number))
        rows = self._rows[present]
        epoch, place = divmod(number, len(rows))
        return epoch, int(rows[permute(place, len(rows), hash_63bit(self._key, "class", present, epoch))])


@lru_cache(maxsize=1024)  # the partner of a sample is usually the next sample
def permute(index: int, size: int, key: int) -> int:
    """Return where `index` lands in the shuffled order of [0, size) that belongs to `key`.

    A shuffled list of a million indices costs megabytes in every worker and must be rebuilt to resume. A keyed
    bijection gives any single entry at once.

    It is a Feistel network on pairs (left, right) from an a × b grid that just covers [0, size), applied again while
    the result lies outside (J. Black and P. Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002, methods 2
    and 3). The grid has fewer than a ≈ √size spare cells, so a second pass is rare.

    Args:
        index: The position before shuffling.
        size: The number of entries.
        key: Selects the order.

    Raises:
        ValueError: `index` is outside [0, size).
    """
    if not 0 <= index < size:
        raise ValueError(f"index is {index}; a permutation of {size} takes 0 to {size - 1}")
    rows = isqrt(size - 1) + 1
    columns = -(-size // rows)
    index = _encipher(index, rows, columns, key)
    while index >= size:
        index = _encipher(index, rows, columns, key)
    return index


def _encipher(index: int, rows: int, columns: int, key: int) -> int:
    """Apply the network once; a bijection on [0, rows · columns)."""
    row, column = divmod(index, columns)
    for number in range(0, _NUM_ROUNDS, 2):
        row = (row + hash_63bit(key, number, column)) % rows
        column = (column + hash_63bit(key, number + 1, row)) % columns
    return row * columns + column


def hash_63bit(*parts: int | str) -> int:
    """Return a non-negative int64 that depends on every part. It is the only source of randomness of a mixture."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
