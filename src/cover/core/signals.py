"""Signals: stopping between two steps when the user or the system asks for it, and processes that do not get them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, what schedulers send before they kill, and SLURM's warning before the time limit."""


class StopSignal:
    """While entered, the first of STOPPING is noted instead of acted upon; a Ctrl-C after it ends at once.

    >>> with StopSignal() as stop:
    ...     while not stop.requested:
    ...         train_one_step()
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None

    def __enter__(self) -> StopSignal:
        self._previous = {number: signal.signal(number, self._note) for number in STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = self.requested or signal.Signals(number)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Processes that are started in the block never get SIGINT and SIGTERM: their parent ends them.

    Terminals and schedulers send these to every process, and the parent needs its workers to finish a step and save.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
