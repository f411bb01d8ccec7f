"""What decoding processes return, and the errors if the system fails them."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch.utils.data._utils import signal_handling

from cover.datasets.manifest import ManifestRow
from cover.errors import CoverError, DecodeError
from cover.media.decode import decode_clip
from cover.media.shared_memory import empty_frames
from cover.media.workers import in_workers, workers_watched


def batch_of(number: int) -> dict[str, Any]:
    frames = empty_frames(2, 3, 1000)
    frames[:] = number
    return {
        "frames": frames,
        "copied": frames.clone() + 1,
        "labels": torch.arange(number),
        "weight": torch.tensor(0.5),
        "mask": torch.tensor([True, False]),
        "names": ("a", f"{number}"),
    }


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_batches_come_in_order_and_as_they_were_made(num_workers: int) -> None:
    batches = list(in_workers(batch_of, range(7), num_workers=num_workers))
    assert len(batches) == 7
    for number, batch in enumerate(batches):
        expected = batch_of(number)
        for name, value in expected.items():
            assert torch.equal(batch[name], value) if isinstance(value, torch.Tensor) else batch[name] == value
            if isinstance(value, torch.Tensor):
                assert batch[name].dtype == value.dtype


@pytest.mark.skipif(not Path("/dev/shm").exists(), reason="there is no shared memory with a limit")
def test_a_batch_takes_no_shared_memory_of_the_container() -> None:
    before = set(os.listdir("/dev/shm"))
    for batch in in_workers(lambda _: empty_frames(8, 1000, 1000), range(2), num_workers=1):
        assert batch.shape == (8, 1000, 1000)
        assert not {name for name in set(os.listdir("/dev/shm")) - before if not name.startswith("sem.")}


@pytest.fixture
def few_files() -> Iterator[Callable[[int], None]]:
    """few_files(n) lets this process open only n more files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def few_files(num_more: int) -> None:
        last = os.open(os.devnull, os.O_RDONLY)
        os.close(last)
        resource.setrlimit(resource.RLIMIT_NOFILE, (last + num_more, limits[1]))

    yield few_files
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_too_few_open_files_are_said_before_any_process_starts(few_files: Callable[[int], None]) -> None:
    children = set(psutil.Process().children())
    few_files(12)
    with pytest.raises(CoverError) as caught, workers_watched("then do it again"):
        list(in_workers(batch_of, range(3), num_workers=4))
    assert str(caught.value) == (
        "processes that decode clips cannot be started (Too many open files; raise the limit of open files, for "
        "example with `ulimit -n 4096`); then do it again"
    )
    assert set(psutil.Process().children()) == children


def fails(number: int) -> dict[str, Any]:
    match number:
        case 1:
            raise OSError(24, "Too many open files")
        case 2:
            raise DecodeError("a.mp4 cannot be decoded (broken); replace the file", "broken")
        case 3:
            raise MemoryError
        case 4:
            os.kill(os.getpid(), signal.SIGKILL)
        case 5:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))  # for the file that would carry the batch
    return batch_of(number)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (1, "a process that decodes clips failed (Too many open files; raise the limit of open files, for"),
        (2, "a.mp4 cannot be decoded (broken); replace the file"),
        (3, "a process that decodes clips failed (MemoryError); then do it again"),
        (4, "a process that decodes clips was killed, most likely because memory ran out"),
        (5, "a process that decodes clips failed (Too many open files; raise the limit of open files, for"),
    ],
)
def test_whatever_a_process_dies_of_is_one_line(number: int, message: str) -> None:
    children = set(psutil.Process().children())
    with pytest.raises(CoverError) as caught, workers_watched("then do it again"):
        for _ in in_workers(fails, [0, number, 0, 0], num_workers=2):
            pass
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    del caught
    assert set(psutil.Process().children()) == children


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError, match=r"Original Traceback"), workers_watched("no"):
        list(in_workers(lambda number: 1 / number, [1, 0], num_workers=1))


def test_closing_ends_the_processes_which_ignore_what_their_group_is_sent() -> None:
    before = set(psutil.Process().children())
    with closing(in_workers(batch_of, range(100), num_workers=2)) as batches:
        next(batches)
        workers = set(psutil.Process().children()) - before
        assert len(workers) == 2
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
            worker.send_signal(signal.SIGINT)
        assert [int(next(batches)["frames"][0, 0, 0]) for _ in range(20)] == list(range(1, 21))
    assert not psutil.wait_procs(workers, timeout=10)[1]


def test_a_process_whose_parent_is_killed_while_it_starts_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    parent = multiprocessing.get_context("fork").Process(target=lambda: list(in_workers(abs, keys(), num_workers=1)))

    def wait_for_another_parent() -> None:
        theirs.send(os.getpid())
        while os.getppid() == parent.pid:
            os.sched_yield()

    def keys() -> Iterator[int]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield 0

    with monkeypatch.context() as patch:
        patch.setattr(signal_handling, "_set_worker_signal_handlers", wait_for_another_parent)
        parent.start()
    parent.join()
    with suppress(psutil.NoSuchProcess):
        worker = psutil.Process(ours.recv())
        try:
            worker.wait(timeout=60)
        finally:
            worker.kill()


UNCLOSED = """
from cover.media.workers import in_workers
batches = in_workers(abs, range(100), num_workers=2)
next(batches)
raise SystemExit(3)
"""


def test_a_program_that_ends_amid_the_batches_does_end() -> None:
    assert subprocess.run([sys.executable, "-c", UNCLOSED], timeout=60).returncode == 3


def test_a_file_that_cannot_be_opened_for_want_of_files_is_not_called_unreadable(
    tmp_path: Path, write_video: Callable[..., Path], few_files: Callable[[int], None]
) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=4)
    row = ManifestRow("a", str(video), 0)
    assert len(decode_clip(row, "video", 2)) == 2
    few_files(0)
    with pytest.raises(CoverError, match=r"a\.mp4.* cannot be opened \(Too many open files; raise the limit") as caught:
        decode_clip(row, "video", 2)
    assert not isinstance(caught.value, DecodeError)
