"""Apply a function to many items, in processes that an item may block or crash.

    items ──▶ worker 0 ── result ───────────────────────▶ (item, result), in the order they finish
          ──▶ worker 1 ── hangs ── the kernel ends it ──▶ (item, Lost("timed out after 60 s")), and a new worker 1
          ──▶ worker 2 ── crashes ──────────────────────▶ (item, Lost("killed by signal 11 …")), and a new worker 2

Each worker has a pipe of its own and shares nothing, so one that dies holds no lock that others wait for. A kernel
timer ends a worker that takes too long, even if native code never returns to Python, and even if the parent has ended.
Workers are spawned, because forking a process that has threads (such as a progress bar) can deadlock.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from typing import Any, Generic, TypeVar

from cover.core.signals import signals_held_back
from cover.errors import CoverError

Item = TypeVar("Item")
Result = TypeVar("Result")

_ITEMS_AHEAD = 2
"""The most items that a worker holds: the current one and one in its pipe, so that the worker never waits."""


@dataclass(frozen=True)
class Lost:
    """The result of an item whose process ended.

    Attributes:
        reason: Why it ended, for messages.
    """

    reason: str


def run_in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_processes: int, timeout_seconds: float
) -> Generator[tuple[Item, Result | Lost]]:
    """Yield (item, function(item)) as results arrive, or (item, Lost) if the call took too long or ended its process.

    Closing the iterator early, as Ctrl-C does, ends the workers at once.

    Args:
        function: Must be picklable, as must items and results. Its exceptions are raised here, with the worker's
            traceback.
        items: The arguments.
        num_processes: How many calls run at the same time.
        timeout_seconds: The time limit of one call.

    Raises:
        CoverError: A worker cannot even start.
    """
    todo = iter(items)
    workers: list[Worker[Item, Result]] = []
    try:
        workers += [Worker(function, timeout_seconds) for _ in range(num_processes)]
        while True:
            for worker in workers:
                worker.give(islice(todo, _ITEMS_AHEAD - len(worker.items)))
            working = {worker.connection: worker for worker in workers if worker.items}
            if not working:
                return
            for connection in wait(working):
                yield from working[connection].receive()  # type: ignore[index]
    finally:
        for worker in workers:
            worker.kill()


def available_cpus() -> int:
    """Return how many CPUs this process may use; on a shared machine that is fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Worker(Generic[Item, Result]):
    """A process and the items that it holds, in the order it processes them.

    Args:
        function: As in `run_in_processes`.
        timeout_seconds: As in `run_in_processes`.
    """

    def __init__(self, function: Callable[[Item], Result], timeout_seconds: float) -> None:
        self._function = function
        self._timeout_seconds = timeout_seconds
        self.items: deque[Item] = deque()
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arguments = (self._function, theirs, self._timeout_seconds)
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        resource_tracker.ensure_running()  # otherwise the worker starts it and unblocks its signals
        with signals_held_back():
            self._process.start()
        theirs.close()  # so that reading from our end stops when the worker ends
        self._has_begun = False

    def give(self, items: Iterable[Item]) -> None:
        """Send items to the process."""
        for item in items:
            self.items.append(item)
            with suppress(ConnectionError):  # the worker has died, which `receive` handles
                self.connection.send(item)

    def ask(self, item: Item) -> Result | Lost:
        """Send an item to a worker that holds no other, and wait for its result."""
        self.give([item])
        while True:
            for _, answer in self.receive():
                return answer

    def receive(self) -> Iterator[tuple[Item, Result | Lost]]:
        """Read one message of the worker; yield the item that is finished, if any."""
        try:
            answer = self.connection.recv()
        except (EOFError, ConnectionError):
            yield self._replace()
            return
        if isinstance(answer, BaseException):
            raise answer
        if self._has_begun:
            yield self.items.popleft(), answer
        self._has_begun = True

    def _replace(self) -> tuple[Item, Lost]:
        """Start a new process with the remaining items."""
        self.kill()
        exit_code = self._process.exitcode or 0
        if not self._has_begun:
            raise CoverError(f"worker processes end at once (exit code {exit_code}); see their output above")
        lost, *others = self.items
        self.items.clear()
        self._start()
        self.give(others)
        return lost, Lost(_reason(exit_code, self._timeout_seconds))

    def kill(self) -> None:
        """End the process at once."""
        self.connection.close()
        self._process.kill()
        self._process.join()


def _reason(exit_code: int, timeout_seconds: float) -> str:
    if exit_code == -signal.SIGALRM:
        return f"timed out after {timeout_seconds:g} s"
    if exit_code < 0:
        return f"killed by signal {-exit_code} ({signal.Signals(-exit_code).name})"
    return f"its process ended with exit code {exit_code}"


def _work(function: Callable[[Any], Any], connection: Connection, timeout_seconds: float) -> None:
    """The main loop of a worker."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with suppress(EOFError, ConnectionError):  # the parent has ended
        connection.send("ready")
        while True:
            item = connection.recv()
            signal.setitimer(signal.ITIMER_REAL, timeout_seconds)
            try:
                answer = function(item)
            except Exception as error:
                answer = ExceptionWithTraceback(error, error.__traceback__)
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send(answer)
