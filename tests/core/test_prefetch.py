from __future__ import annotations

from collections.abc import Iterator
from threading import Barrier

import pytest

from cover.core.prefetch import map_ahead, one_ahead


def test_results_come_in_order_and_are_made_at_the_same_time() -> None:
    together = Barrier(2)

    def double(number: int) -> int:
        together.wait(timeout=20)
        return 2 * number

    assert list(map_ahead(double, range(6), num_threads=2, num_ahead=2)) == [0, 2, 4, 6, 8, 10]


def test_no_more_than_that_is_begun_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = map_ahead(lambda number: number, items(), num_threads=2, num_ahead=3)
    assert [next(results), next(results)] == [0, 1]
    assert len(taken) == 5
    results.close()
    assert len(taken) == 5


def test_an_error_in_a_thread_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(map_ahead(lambda number: 1 // number, [1, 0, 1], num_threads=2, num_ahead=2))


def test_one_ahead_changes_nothing() -> None:
    assert list(one_ahead(iter([1, None, 3]))) == [1, None, 3]
    assert list(one_ahead(iter([]))) == []
