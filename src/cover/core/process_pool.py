"""A function over many items, in processes that an item may hang or kill.

    items ──▶ worker 0 ── result ────────────────────────▶ (item, result), in the order they are done
          ──▶ worker 1 ── hangs ── the kernel ends it ───▶ (item, Lost("timed out after 60 s")), and a fresh worker 1
          ──▶ worker 2 ── crashes ───────────────────────▶ (item, Lost("killed by signal 11 …")), and a fresh worker 2

Workers live long and share nothing: each has a pipe of its own, so one that dies leaves no lock behind that others wait
for. An interval timer of the kernel ends a worker that overstays, also while native code never returns to Python, and
also when nobody is left to watch it. They are spawned, because a fork of a process with threads (a progress bar has
one) may lock up.
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
"""Items that a worker has at most: one in work, one that waits in its pipe, so that it never idles."""


@dataclass(frozen=True)
class Lost:
    """What becomes of an item that took its process with it."""

    reason: str


def run_in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_processes: int, timeout_seconds: float
) -> Generator[tuple[Item, Result | Lost]]:
    """(item, function(item)) as they are done; (item, Lost) where that took too long or killed its process.

    function, items, results: must pickle. An exception in `function` is raised here, with the worker's traceback.
    timeout_seconds: for one item. Closing the iterator early, as Ctrl-C does, ends the workers at once.

    Raises CoverError when a worker cannot even start.
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
    """That this process may use, which on a shared machine are fewer than it has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Worker(Generic[Item, Result]):
    """A process and the items that it has, in the order of its work. Arguments as in `run_in_processes`."""

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
        resource_tracker.ensure_running()  # or the first process would start it, which lets signals through
        with signals_held_back():
            self._process.start()
        theirs.close()  # so that reading from ours ends when the worker does
        self._has_begun = False

    def give(self, items: Iterable[Item]) -> None:
        for item in items:
            self.items.append(item)
            with suppress(ConnectionError):  # it has died: `receive` will see that
                self.connection.send(item)

    def ask(self, item: Item) -> Result | Lost:
        """The answer to an item, waited for; of a worker that has no other."""
        self.give([item])
        while True:
            for _, answer in self.receive():
                return answer

    def receive(self) -> Iterator[tuple[Item, Result | Lost]]:
        """What the worker has to say: at most one item is done."""
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
        """Start a fresh process, with the items that this one did not come to."""
        self.kill()
        exit_code = self._process.exitcode or 0
        if not self._has_begun:
            raise CoverError(f"worker processes end at once (exit code {exit_code}); see what they printed above")
        lost, *others = self.items
        self.items.clear()
        self._start()
        self.give(others)
        return lost, Lost(_reason(exit_code, self._timeout_seconds))

    def kill(self) -> None:
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
    """The life of a worker."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with suppress(EOFError, ConnectionError):  # the parent has gone
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
