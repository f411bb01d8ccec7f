from __future__ import annotations

import signal
import threading
import time
from multiprocessing import SimpleQueue
from pathlib import Path

import pytest
from tests.processes import wait_until

from cover.errors import CoverError
from cover.studies.job_queue import JobQueue


def begin(devices: SimpleQueue[str]) -> None:
    devices.get()


def begin_slowly(devices: SimpleQueue[str]) -> None:
    """As with a GPU: until the file "go" is there. The name of the device is a file to make."""
    begun = Path(devices.get())
    begun.touch()
    wait_until((begun.parent / "go").exists)


def test_what_is_begun_while_a_process_starts_is_not_done_after_an_interrupt(tmp_path: Path) -> None:
    begun, answers = [tmp_path / "a", tmp_path / "b"], list[object]()
    with pytest.raises(KeyboardInterrupt), JobQueue([str(file) for file in begun], begin_slowly) as queue:

        def go_on() -> None:
            wait_until(lambda: queue._closed)
            (tmp_path / "go").touch()

        jobs = [queue.submit(0, answers.append, time.sleep, 3600) for _ in range(3)]
        wait_until(lambda: all(file.exists() for file in begun))
        threading.Thread(target=go_on).start()
        raise KeyboardInterrupt
    assert not answers
    assert all(job.cancelled() or job.exception() for job in jobs)


def test_the_most_urgent_job_is_done_first() -> None:
    answers: list[str] = []
    with JobQueue([""], begin) as queue:
        jobs = [queue.submit(priority, answers.append, str, priority) for priority in (3, 1, 2)]
        for job in jobs:
            job.result()
    assert answers in (["3", "1", "2"], ["1", "2", "3"])  # the first may be taken before the others are there


def test_a_killed_process_ends_the_work_in_one_line() -> None:
    with JobQueue([""], begin) as queue:
        job = queue.submit(0, print, signal.raise_signal, signal.SIGKILL)
        with pytest.raises(
            CoverError, match="the process of a run was killed, most likely because memory ran out; give it"
        ):
            job.result()
