"""A queue of jobs for worker processes: the most urgent job goes first, and workers get a signal when the user stops.

ProcessPoolExecutor takes jobs in the order in which they come, which would leave all studies half done when time runs
out.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cover.errors import CoverError

_LAST = -1
"""Priority of the job that ends a thread."""
_KILLED = (
    "the process of a run was killed, most likely because memory ran out; give it more memory, or run fewer "
    "side by side; the same command continues"
)


@dataclass(order=True)
class _Job:
    """A function for a process, and what this process does with its result."""

    priority: int
    number: int
    function: Callable[..., Any] = field(compare=False)
    arguments: tuple[Any, ...] = field(compare=False)
    then: Callable[[Any], None] = field(compare=False)
    done: Future[None] = field(compare=False, default_factory=Future)


class JobQueue:
    """Jobs for one worker process a device. Use it as a context manager.

    At the end of the block, jobs that have not begun are cancelled and the others are waited for. KeyboardInterrupt
    sends SIGTERM to their processes first.

    Args:
        devices: Names of devices, one for each process.
        initializer: Called in each process with a queue that holds the names. The processes do not get the SIGINT that
            a terminal sends to all of them.
    """

    def __init__(self, devices: Sequence[str], initializer: Callable[[Any], None]) -> None:
        context = multiprocessing.get_context("spawn")
        names = context.SimpleQueue()
        for device in devices:
            names.put(device)
        self._jobs = queue.PriorityQueue[_Job]()
        self._numbers = itertools.count()
        self._closed = False
        self._processes: set[int] = set()
        self._executors = [ProcessPoolExecutor(1, context, initializer, (names,)) for _ in devices]
        self._threads = [threading.Thread(target=self._serve, args=(executor,)) for executor in self._executors]
        for thread in self._threads:
            thread.start()

    def submit(
        self, priority: int, then: Callable[[Any], None], function: Callable[..., Any], *arguments: Any
    ) -> Future[None]:
        """Have a process call a function, then call `then` with its result in this process.

        Args:
            priority: Jobs with the lowest number go first.
            then: Takes the result.
            function: Called in the process.
            *arguments: Of the function.

        Returns:
            A future that is done after `then`.

        Raises:
            CancelledError: The block has ended.
        """
        if self._closed:
            raise CancelledError
        job = _Job(priority, next(self._numbers), function, arguments, then)
        self._jobs.put(job)
        return job.done

    def _serve(self, executor: ProcessPoolExecutor) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by the process, which gets SIGTERM
        while (job := self._jobs.get()).priority != _LAST:
            job.done.set_running_or_notify_cancel()
            try:
                self._processes.add(executor.submit(os.getpid).result())
                if self._closed:  # the user stopped while the process started, so it got no signal
                    raise CancelledError
                job.then(executor.submit(job.function, *job.arguments).result())
                job.done.set_result(None)
            except BrokenProcessPool as error:
                job.done.set_exception(CoverError(_KILLED).with_traceback(error.__traceback__))
            except BaseException as error:
                job.done.set_exception(error)

    def __enter__(self) -> JobQueue:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._closed = True
        while not self._jobs.empty():
            self._jobs.get_nowait().done.cancel()
        for process in tuple(self._processes) if kind is KeyboardInterrupt else ():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        for _thread in self._threads:
            self._jobs.put(_Job(_LAST, next(self._numbers), print, (), print))
        for thread, executor in zip(self._threads, self._executors, strict=True):
            thread.join()
            executor.shutdown()
