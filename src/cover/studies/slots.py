"""Worker processes that take the most urgent job first, and are told when the user stops.

ProcessPoolExecutor takes jobs as they come, so that all studies would be half done when time runs out.
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
from typing import Any

from cover.errors import CoverError

_LAST = -1
"""Priority of the job that ends a thread."""
_KILLED = (
    "the process of a run was killed, most likely because memory ran out; give it more memory, or run fewer "
    "side by side; the same command continues"
)


class Slots:
    """A worker process for each of `devices`; a context manager, at whose end what has not begun is cancelled.

    Jobs that are being done are waited for; KeyboardInterrupt has SIGTERM sent to their processes.

    initializer: called in each process with a queue that holds the devices' names. Processes do not get SIGINT, which a
    terminal sends to them, too.
    """

    def __init__(self, devices: Sequence[str], initializer: Callable[[Any], None]) -> None:
        context = multiprocessing.get_context("spawn")
        names = context.SimpleQueue()
        for device in devices:
            names.put(device)
        self._jobs: queue.PriorityQueue[
            tuple[int, int, Future[None], Callable[[Any], None], Callable[..., Any], tuple[Any, ...]]
        ]
        self._jobs = queue.PriorityQueue()
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
        """Have a process call the function, and `then` with its answer here; after that, the job is done.

        Of waiting jobs, those of the lowest priority number go first. Raises CancelledError after the end.
        """
        if self._closed:
            raise CancelledError
        done: Future[None] = Future()
        self._jobs.put((priority, next(self._numbers), done, then, function, arguments))
        return done

    def _serve(self, executor: ProcessPoolExecutor) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the process, which inherits this, is sent SIGTERM
        while True:
            priority, _, done, then, function, arguments = self._jobs.get()
            if priority == _LAST:
                return
            done.set_running_or_notify_cancel()
            try:
                self._processes.add(executor.submit(os.getpid).result())
                if self._closed:  # the user stopped while the process started: nobody has sent it a signal
                    raise CancelledError
                done.set_result(then(executor.submit(function, *arguments).result()))
            except BrokenProcessPool as error:
                done.set_exception(CoverError(_KILLED).with_traceback(error.__traceback__))
            except BaseException as error:
                done.set_exception(error)

    def __enter__(self) -> Slots:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._closed = True
        while not self._jobs.empty():
            self._jobs.get_nowait()[2].cancel()
        for process in tuple(self._processes) if kind is KeyboardInterrupt else ():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        for _thread in self._threads:
            self._jobs.put((_LAST, next(self._numbers), Future(), print, print, ()))
        for thread, executor in zip(self._threads, self._executors, strict=True):
            thread.join()
            executor.shutdown()
