"""Stopping between two steps when the user or the system asks for it."""

from __future__ import annotations

import signal
from types import FrameType


class StopSignal:
    """While entered, the first Ctrl-C or SIGTERM is noted instead of raised; a second Ctrl-C ends at once.

    >>> with StopSignal() as stop:
    ...     while not stop.requested:
    ...         train_one_step()
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None

    def __enter__(self) -> StopSignal:
        self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number)
