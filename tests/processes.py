"""Processes that a test starts: none of them outlives the test, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

TRAINING = multiprocessing.get_context("forkserver")
"""Starts processes that have imported what training needs. They are forked from one process that has."""
TRAINING.set_forkserver_preload(["cover.runs.train", "torch._dynamo", "torch.utils.tensorboard"])


@contextmanager
def started(command: Sequence[object], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own. The whole group is killed at the end of the block.

    Args:
        command: The program and its arguments.
        options: As for subprocess.Popen.
    """
    process = subprocess.Popen(list(map(str, command)), text=True, start_new_session=True, **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Return once `condition()` holds. Fail after a minute, or if `process` ends before."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not happen within a minute"
        assert process is None or process.poll() is None, f"the process ended with exit code {process.returncode}"
        time.sleep(0.01)
