"""The order in which a dataset is walked: a keyed shuffle that needs no memory.

A shuffled list of a million indices costs megabytes a worker and must be rebuilt to resume. A keyed bijection on
[0, size) gives any single entry of the shuffle at once.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from math import isqrt

NUM_ROUNDS = 8


@lru_cache(maxsize=1024)  # a sample's partner is the sample that most often comes next
def permute(index: int, size: int, key: int) -> int:
    """Where `index` lands in the shuffle of [0, size) that belongs to `key`.

    A Feistel network on pairs (left, right) of an a × b grid just covering [0, size), walked on while it lands outside
    (J. Black and P. Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002, methods 2 and 3). The grid has
    fewer than a ≈ √size spare cells, so a second walk is rare.

    Raises ValueError when index is outside [0, size).
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
    """One pass of the network, a bijection on [0, rows · columns)."""
    row, column = divmod(index, columns)
    for number in range(0, NUM_ROUNDS, 2):
        row = (row + hash_63bit(key, number, column)) % rows
        column = (column + hash_63bit(key, number + 1, row)) % columns
    return row * columns + column


def hash_63bit(*parts: int | str) -> int:
    """A non-negative int64 that depends on every part: the one source of randomness of a mixture."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
