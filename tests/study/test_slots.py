from __future__ import annotations

import time
from multiprocessing import SimpleQueue

import pytest

from cover.study.slots import Slots


def begin(devices: SimpleQueue[str]) -> None:
    """Slowly, as with a GPU."""
    devices.get()
    time.sleep(1)


def test_what_is_begun_while_a_process_starts_is_not_done_after_an_interrupt() -> None:
    started, answers = time.monotonic(), []
    with pytest.raises(KeyboardInterrupt), Slots(["a", "b"], begin) as slots:
        jobs = [slots.submit(0, answers.append, time.sleep, 120) for _ in range(3)]
        time.sleep(0.3)
        raise KeyboardInterrupt
    assert time.monotonic() - started < 60 and not answers
    assert all(job.cancelled() or job.exception() for job in jobs)


def test_the_most_urgent_job_is_done_first() -> None:
    answers: list[str] = []
    with Slots([""], begin) as slots:
        jobs = [slots.submit(priority, answers.append, str, priority) for priority in (3, 1, 2)]
        for job in jobs:
            job.result()
    assert answers in (["3", "1", "2"], ["1", "2", "3"])  # the first may be taken before the others are there
