"""One training at a time in a run folder."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from cover.errors import CheckpointError
from cover.text_files import read_text

logger = logging.getLogger(__name__)

LOCK_FILE = "train.lock"


@contextmanager
def run_lock(run: Path, accelerator: Accelerator) -> Iterator[None]:
    """Hold a run folder while training. Every process of a training calls this; the main process takes the lock.

    The lock belongs to the process: the system releases it when the process ends in any way, so a file that a killed
    training has left behind is no obstacle.

    Raises:
        CheckpointError: Another training holds the folder, or it cannot be written; in all processes.
    """
    file: TextIO | None = None
    fault: list[str | None] = [None]
    if accelerator.is_main_process:
        try:
            file = _take(run / LOCK_FILE)
        except BlockingIOError:
            fault = [_in_use(run)]
        except OSError as error:
            fault = [f"{run} cannot be written ({error.strerror or error}); choose another --out"]
    if accelerator.num_processes > 1:
        broadcast_object_list(fault)
    if fault[0]:
        raise CheckpointError(fault[0])
    try:
        yield
    finally:
        if file:
            Path(file.name).unlink(missing_ok=True)
            file.close()
            with suppress(OSError):  # a run that failed before it wrote anything leaves no folder
                run.rmdir()


def _take(path: Path) -> TextIO:
    """Lock a file, and write into it who has it. Raises BlockingIOError where another process has, and OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            # A lock of the process, not of the open file: decoding processes that are forked later do not share it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.close()
            raise BlockingIOError from None
        except OSError as error:
            logger.warning("%s cannot be locked (%s); start no other training there", path.parent, error.strerror)
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()  # its owner has deleted it since it was opened
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M}\n")
    file.flush()
    return file


def _in_use(run: Path) -> str:
    with suppress(OSError, ValueError):
        owner = read_text(run / LOCK_FILE).strip()
        return f"{run} is being trained by {owner}; wait for it or stop it, or choose another --out"
    return f"{run} is being trained by another process; wait for it or stop it, or choose another --out"
