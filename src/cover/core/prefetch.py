"""Work done in threads while its results are in use: decoding, which leaves Python's lock alone, beside the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, repeat
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int, num_ahead: int
) -> Generator[Result]:
    """function(item) in the order of `items`, of which `num_ahead` at most are begun before they are asked for."""
    todo = iter(items)
    begun: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            begun.extend(pool.submit(function, item) for item in islice(todo, num_ahead))
            while begun:
                result = begun.popleft().result()
                begun.extend(pool.submit(function, item) for item in islice(todo, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """`items`, of which the next is made in a thread while one is in use."""
    end = object()
    made = map_ahead(lambda _: next(items, end), repeat(None), num_threads=1, num_ahead=1)
    for item in made:
        if item is end:
            return
        yield item  # type: ignore[misc]
