"""The items are calls of the standard library; some hang or kill the process that runs them."""

from __future__ import annotations

import math
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import psutil
import pytest
from tests.processes import started, wait_until

from cover.core.process_pool import Lost, run_in_processes
from cover.errors import CoverError

Call = Callable[[], Any]


def outcomes(calls: list[Call], *, num_processes: int = 2, timeout_seconds: float = 60) -> list[tuple[Call, Any]]:
    return list(run_in_processes(operator.call, calls, num_processes=num_processes, timeout_seconds=timeout_seconds))


def test_every_item_has_its_result() -> None:
    calls: dict[Call, int] = {partial(math.factorial, number): number for number in range(100)}
    found = {calls[call]: result for call, result in outcomes(list(calls))}
    assert found == {number: math.factorial(number) for number in range(100)}
    assert outcomes([]) == []


def test_an_item_that_kills_or_hangs_its_process_is_lost_alone() -> None:
    lost: dict[Call, str] = {
        partial(signal.raise_signal, signal.SIGSEGV): "killed by signal 11 (SIGSEGV)",
        partial(signal.raise_signal, signal.SIGKILL): "killed by signal 9 (SIGKILL)",
        partial(os._exit, 3): "its process ended with exit code 3",
        partial(os._exit, 0): "its process ended with exit code 0",
        partial(time.sleep, 3600): "timed out after 1 s",
    }
    calls: list[Call] = []
    for call in lost:
        calls += [call, partial(math.sqrt, 4.0)]
    found = outcomes(calls, timeout_seconds=1)
    assert len(found) == len(calls)
    for call, result in found:
        assert result == (Lost(lost[call]) if call in lost else 2.0)


def test_processes_live_on_from_item_to_item() -> None:
    assert len({pid for _, pid in outcomes([os.getpid] * 50)}) <= 2


def test_a_limit_holds_for_each_item_by_itself() -> None:
    naps: list[Call] = [partial(time.sleep, 0.4)] * 4
    assert [result for _, result in outcomes(naps, num_processes=1, timeout_seconds=1.4)] == [None] * 4


def test_an_exception_in_the_function_is_a_bug_and_raised() -> None:
    with pytest.raises(ValueError, match="math domain error"):
        outcomes([partial(math.sqrt, -1.0)])


ENDS_AT_ONCE = """
import os, sys

def work(item): ...

if "pytest" not in sys.modules:
    os._exit(7)
"""


def test_processes_that_cannot_start_end_the_work(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ends_at_once.py").write_text(
        "import os\ndef work(item): ...\nif 'pytest' not in os.sys.modules: os._exit(7)"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import ends_at_once  # type: ignore[import-not-found]

    with pytest.raises(CoverError, match=r"worker processes end at once \(exit code 7\)"):
        list(run_in_processes(ends_at_once.work, [1], num_processes=1, timeout_seconds=60))


def test_closing_early_ends_the_processes_at_once() -> None:
    calls: list[Call] = [os.getpid, *[partial(time.sleep, 3600)] * 3]
    with closing(run_in_processes(operator.call, calls, num_processes=2, timeout_seconds=3600)) as results:
        _, pid = next(results)
    assert isinstance(pid, int)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


ORPHANS = """
import operator, os, time
from functools import partial
from cover.core.process_pool import run_in_processes

if __name__ == "__main__":
    calls = [os.getpid, partial(time.sleep, 3600)]
    for _, pid in run_in_processes(operator.call, calls, num_processes=1, timeout_seconds=1):
        print(pid, flush=True)
"""


def test_a_hanging_worker_does_not_outlive_its_parent(tmp_path: Any) -> None:
    (tmp_path / "orphans.py").write_text(ORPHANS)
    with started([sys.executable, tmp_path / "orphans.py"], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        wait_until(lambda: not psutil.pid_exists(pid))
