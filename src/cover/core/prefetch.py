"""Prepare items in threads while earlier ones are in use.

Decoding releases Python's lock, so it runs beside the model.
"""

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
    """Yield `function(item)` for each of `items`, in order, computed ahead in threads.

    Args:
        function: Called in a thread.
        items: The arguments.
        num_threads: How many calls run at the same time.
        num_ahead: How many calls may be started before their results are asked for.
    """
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
    """Yield `items`, preparing the next one in a thread while the current one is in use."""
    end = object()
    made = map_ahead(lambda _: next(items, end), repeat(None), num_threads=1, num_ahead=1)
    for item in made:
        if item is end:
            return
        yield item  # type: ignore[misc]
