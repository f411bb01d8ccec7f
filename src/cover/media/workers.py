"""Processes that decode while the model computes. Whatever stops them becomes a one-line error.

    keys ──▶ worker 0 ── work(key) ── SharedBatch ──▶ batch
         ──▶ worker 1 ── …

torch's DataLoader starts the processes and keeps the batches in order.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from multiprocessing.util import Finalize
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data._utils import signal_handling

from cover.core.signals import signals_held_back
from cover.errors import CoverError, system_reason
from cover.media.shared_memory import SharedBatch

Key = TypeVar("Key")
Batch = TypeVar("Batch")

_END = object()
_FILES_OF_WORKER, _FILES_OF_LOADER = 6, 8
"""What each worker opens and creates, and what all of them need together, or slightly more."""
_LOCKS_OF_WORKER, _LOCKS_OF_LOADER = 4, 8
"""The same for locks."""


class WorkerError(CoverError):
    """A process that decodes could not be started or do its work."""


def in_workers(
    work: Callable[[Key], Batch], keys: Iterable[Key], *, num_workers: int, ahead: int = 2, pin_memory: bool = False
) -> Generator[Batch]:
    """Yield work(key) for every key, in order, from forked processes. They end when the generator is closed.

    Args:
        work: What the processes do.
        keys: The arguments.
        num_workers: How many processes; 0 works in this one.
        ahead: How many batches each process may have ready.
        pin_memory: Call each batch's own `pin_memory`, in a thread.

    Raises:
        WorkerError: The system does not let a process start or work.
        CoverError: As raised by `work`. Other errors of `work` come with the process's traceback.
    """
    if not num_workers:
        for key in keys:
            batch: Any = work(key)
            yield batch.pin_memory() if pin_memory else batch
        return
    with ExitStack() as stack:
        with _failures("processes that decode clips cannot be started"):
            _check_room(num_workers)
            pairs = [socket.socketpair() for _ in range(num_workers)]
            for side in chain.from_iterable(pairs):
                stack.enter_context(side)
            with signals_held_back():
                batches = iter(_loader(_Work(work, pairs), keys, num_workers, ahead, pin_memory))
        # Python waits for processes at exit. After an error, this generator may not have been closed by then.
        stack.callback(Finalize(None, _end_workers, [batches], exitpriority=100))
        while True:
            with _failures("a process that decodes clips failed"):
                answer: Any = next(batches, _END)
                if isinstance(answer, SharedBatch):
                    answer = answer.open()
            if answer is _END:
                return
            if isinstance(answer, CoverError):
                raise answer
            yield answer


def _loader(work: _Work, keys: Iterable[Any], num_workers: int, ahead: int, pin_memory: bool) -> DataLoader[Any]:
    return DataLoader(
        work,
        sampler=keys,
        batch_size=None,  # a key is a whole batch already
        collate_fn=_unchanged,
        worker_init_fn=partial(_end_orphan, os.getpid()),
        num_workers=num_workers,
        prefetch_factor=ahead,
        multiprocessing_context="fork",  # shares memory and open files
        pin_memory=pin_memory,
        generator=torch.Generator(),  # otherwise the loader would draw from the global random state and change it
    )


def _check_room(num_workers: int) -> None:
    """Check that the system has enough locks and files left for a loader.

    If torch fails halfway, it leaves processes behind that are never ended.

    Raises OSError or WorkerError if there are too few.
    """
    context = multiprocessing.get_context("fork")
    try:
        locks = [context.Lock() for _ in range(_LOCKS_OF_WORKER * num_workers + _LOCKS_OF_LOADER)]
    except OSError as error:
        raise WorkerError(
            f"processes that decode clips need some KB in /dev/shm ({os.strerror(error.errno or 0)}); make room there, "
            "give a container more with `docker run --shm-size=1g`, or set data.num_workers = 0"
        ) from error
    with ExitStack() as files:
        for _ in range(_FILES_OF_WORKER * num_workers + _FILES_OF_LOADER):
            files.callback(os.close, os.open(os.devnull, os.O_RDONLY))
    del locks


@contextmanager
def workers_watched(remedy: str) -> Iterator[None]:
    """Raise CoverError if a process of `in_workers` fails, is killed or crashes during the block.

    torch raises such errors at any point in the main process, so the block must contain everything that runs while the
    workers do.

    Args:
        remedy: What the user can do, for the message.

    Raises:
        CoverError: A process failed.
    """
    try:
        yield
    except WorkerError as error:
        raise CoverError(f"{error}; {remedy}") from error
    except BrokenPipeError:  # from printing
        raise
    except (RuntimeError, ConnectionError, EOFError) as error:  # the last two while a worker was sending
        text, _, signal = str(error).partition(" is killed by signal: ")
        if isinstance(error, RuntimeError) and not text.startswith(("DataLoader worker (pid", "Pin memory thread")):
            raise
        signal = signal.split(". ")[0].strip(" .")
        if signal in ("", "Killed", "Terminated"):
            cause = ", most likely because memory ran out; give it more memory, or lower data.num_workers"
        else:
            cause = f" ({signal}), most likely by a broken file; find it with `cover check`"
        raise CoverError(f"a process that decodes clips was killed{cause}; {remedy}") from error


class _Work(Dataset[Any]):
    """What a worker does, as a map-style dataset: a key in, a SharedBatch or an error out."""

    def __init__(self, work: Callable[[Any], Any], channels: list[tuple[socket.socket, socket.socket]]) -> None:
        self._work, self._channels = work, channels

    def __getitem__(self, key: Any) -> SharedBatch | CoverError:
        worker = get_worker_info()
        assert worker is not None
        try:
            return SharedBatch(self._work(key), *self._channels[worker.id])
        except CoverError as error:
            return error  # not raised, because torch would pass on a text with a traceback instead
        except (OSError, MemoryError) as error:
            return WorkerError(f"a process that decodes clips failed ({system_reason(error)})")


@contextmanager
def _failures(what: str) -> Iterator[None]:
    """Raise WorkerError if the system refuses something to the DataLoader."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = system_reason(error).rpartition("Error: ")[2]  # torch adds the traceback of a thread
        raise WorkerError(f"{what} ({reason})") from error


def _end_workers(batches: Any) -> None:
    """End a loader's processes at once; torch only sends SIGTERM to slow ones, and nothing when Python exits."""
    batches._shutdown_workers()
    if batches._worker_pids_set:
        signal_handling._remove_worker_pids(id(batches))  # type: ignore[attr-defined]  # otherwise torch reports the killed ones
        batches._worker_pids_set = False
    for worker in batches._workers:
        worker.kill()


def _end_orphan(parent: int, _worker_id: int) -> None:
    """End a worker whose parent was killed while the worker started. torch only notices parents that die later."""
    if os.getppid() != parent:
        os._exit(1)


def _unchanged(batch: Any) -> Any:
    return batch
