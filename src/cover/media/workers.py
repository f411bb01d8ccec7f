"""Processes of a DataLoader that the system kills, or that a decoder takes down with it: told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cover.errors import CoverError


@contextmanager
def workers_watched(remedy: str) -> Iterator[None]:
    """Raise CoverError, with the remedy, where a process of a DataLoader in the block is killed or crashes.

    torch raises that wherever the main process is at the moment, so all that goes on beside the loader belongs inside.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:  # the last two: amid what a worker was sending
        text, _, signal = str(error).partition(" is killed by signal: ")
        if isinstance(error, RuntimeError) and not text.startswith("DataLoader worker (pid"):
            raise
        signal = signal.split(". ")[0].strip(" .")
        if signal in ("", "Killed", "Terminated"):
            cause = ", most often for want of memory: give it more, or lower data.num_workers"
        else:
            cause = f" ({signal}), most often by a broken file: `cover check` finds it"
        raise CoverError(f"a process that decodes clips was killed{cause}; {remedy}") from error


def end_workers(batches: Any) -> None:
    """A loader ends its workers when nobody refers to it any more, but an error that came out of it does; and what
    it does about a worker that will not end is SIGTERM."""
    workers = getattr(batches, "_workers", [])
    if workers:
        batches._shutdown_workers()
    for worker in workers:
        worker.kill()
