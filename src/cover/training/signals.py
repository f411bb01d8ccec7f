"""Stopping between two steps when the user or the system asks for it."""

from __future__ import annotations

import signal
from types import FrameType

import torch
from accelerate import Accelerator

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


def any_rank_stopped(requested: signal.Signals | None, accelerator: Accelerator) -> signal.Signals | None:
    """The signal that any process was asked to stop with: all of them must stop at the same point, and call this."""
    if accelerator.num_processes == 1:
        return requested
    number = torch.tensor([int(requested or 0)], device=accelerator.device)
    highest = int(accelerator.gather(number).max())
    return signal.Signals(highest) if highest else None
