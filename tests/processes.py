"""Processes that a test starts, none of which outlives the test, and a limit of its own process."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil

TRAINING = multiprocessing.get_context("forkserver")
"""Starts processes that have imported what training needs. They are forked from one process that has."""
TRAINING.set_forkserver_preload(["cover.runs.train", "torch._dynamo", "torch.utils.tensorboard"])


def free_port() -> int:
    """A port at which processes of this machine can meet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def become_rank(rank: int, port: int) -> None:
    """Tell this process that it is one of two, as torchrun does. They meet at `port`."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}


@contextmanager
def started(command: Sequence[object], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own. At the end of the block, it is killed with all of its children.

    Args:
        command: The program and its arguments.
        options: As for subprocess.Popen.
    """
    process = subprocess.Popen(list(map(str, command)), text=True, start_new_session=True, **options)
    try:
        yield process
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for child in children:  # which may have groups of their own
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.communicate()


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Return once `condition()` holds. Fail after a minute, or if `process` ends before."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not happen within a minute"
        assert process is None or process.poll() is None, f"the process ended with exit code {process.returncode}"
        time.sleep(0.01)


@contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """A limit on file sizes simulates a full disk: in the block, files cannot grow beyond `num_bytes`."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
