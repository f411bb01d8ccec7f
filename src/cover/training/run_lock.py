"""One training at a time in a run folder."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from accelerate import Accelerator

from cover.core.run_files import RunFiles
from cover.core.text_files import read_text
from cover.errors import CheckpointError
from cover.training.parallel import from_main

logger = logging.getLogger(__name__)

_held_here: set[str] = set()
"""Locks of this process. The system would grant a process the same lock twice."""
_changing = threading.Lock()


@contextmanager
def run_lock(run: RunFiles, accelerator: Accelerator) -> Iterator[None]:
    """Hold a run folder while training. Every process calls this; the main process takes the lock.

    The system releases the lock however the process ends, so a file that a killed training leaves behind is harmless.

    Raises:
        CheckpointError: Another training holds the folder, or it cannot be written; in all processes.
    """
    held: list[TextIO] = []
    from_main(lambda: held.append(_take(run.lock_file)), accelerator)
    try:
        yield
    finally:
        for file in held:
            _release(run.lock_file, file)
            with suppress(OSError):  # a run that failed before it wrote anything leaves no folder
                run.path.rmdir()


def _take(path: Path) -> TextIO:
    """Lock a file, and write into it who holds it. Raises CheckpointError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(path)
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M}\n")
            file.flush()
        except OSError:
            _release(path, file)
            raise
    except BlockingIOError:
        raise CheckpointError(
            f"{path.parent} is being trained by {_owner(path)}; wait for it or stop it, or choose another --out"
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"{path.parent} cannot be written ({reason}); choose another --out") from None
    return file


def _release(path: Path, file: TextIO) -> None:
    path.unlink(missing_ok=True)
    with suppress(OSError):  # closing writes what a full disk did not take
        file.close()
    with _changing:
        _held_here.discard(os.path.realpath(path))


def _locked(path: Path) -> TextIO:
    """Create the file if needed, and lock it. Raises BlockingIOError if another training has the lock."""
    with _changing:
        if os.path.realpath(path) in _held_here:
            raise BlockingIOError
        file = _locked_by_system(path)
        _held_here.add(os.path.realpath(path))
        return file


def _locked_by_system(path: Path) -> TextIO:
    """Like `_locked`, but only against other processes."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            # The lock belongs to the process, not to the open file: forked decoding processes do not share it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.close()
            raise BlockingIOError from None
        except OSError as error:
            logger.warning("%s cannot be locked (%s); start no other training there", path.parent, error.strerror)
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()  # its owner deleted it after we opened it


def _owner(path: Path) -> str:
    with suppress(OSError, ValueError):
        return read_text(path).strip() or "another process"
    return "another process"
