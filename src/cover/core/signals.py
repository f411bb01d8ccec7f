"""Signals: stop between two steps when the user or the system asks for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, the signal that schedulers send before they kill, and SLURM's warning before the time limit."""


class StopSignal:
    """Record the first stop signal instead of ending the process. A second Ctrl-C ends it at once.

    >>> with StopSignal() as stop:
    ...     while not stop.requested:
    ...         train_one_step()

    Attributes:
        requested: The signal that arrived, or None.
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
    """Start processes that never receive SIGINT and SIGTERM, so that their parent decides when they end.

    Terminals and schedulers send these signals to every process, but the parent needs its workers to finish a step and
    save.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
