from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest
from accelerate import Accelerator

from cover.core.run_files import RunFiles
from cover.errors import CheckpointError
from cover.training.run_lock import run_lock


@contextmanager
def another_training(run: Path) -> Iterator[ForkProcess]:
    """A process that holds the run folder."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()

    def hold() -> None:
        with run_lock(RunFiles(run), Accelerator(cpu=True)):
            theirs.send("held")
            theirs.recv()

    process = fork.Process(target=hold)
    process.start()
    try:
        assert ours.recv() == "held"
        yield process
    finally:
        process.kill()
        process.join()


def test_a_second_training_is_refused_with_the_name_of_the_first_until_that_is_gone(tmp_path: Path) -> None:
    run, accelerator = tmp_path / "run", Accelerator(cpu=True)
    with another_training(run) as process:
        with pytest.raises(CheckpointError) as caught, run_lock(RunFiles(run), accelerator):
            pass
        assert str(caught.value).startswith(
            f"{run} is being trained by process {process.pid} on {socket.gethostname()}"
        )
        assert str(caught.value).endswith("; wait for it or stop it, or choose another --out")
        process.kill()
        process.join()
        assert (run / "train.lock").exists()
        with run_lock(RunFiles(run), accelerator):
            assert (run / "train.lock").read_text().startswith("process ")
    assert not run.exists()


def test_a_run_that_has_written_something_stays_and_the_lock_goes(tmp_path: Path) -> None:
    with run_lock(RunFiles(tmp_path / "run"), Accelerator(cpu=True)):
        (tmp_path / "run" / "recipe.toml").write_text("")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["recipe.toml"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(CheckpointError, match=r"file/run cannot be written \(Not a directory\); choose another --out"),
        run_lock(RunFiles(tmp_path / "file" / "run"), Accelerator(cpu=True)),
    ):
        pass


def test_a_second_training_in_the_same_process_is_refused_and_leaves_the_first_its_lock(tmp_path: Path) -> None:
    run, accelerator = tmp_path / "run", Accelerator(cpu=True)
    with run_lock(RunFiles(run), accelerator):
        with (
            pytest.raises(CheckpointError, match=f"is being trained by process {os.getpid()}"),
            run_lock(RunFiles(run), accelerator),
        ):
            pass
        assert (run / "train.lock").exists()
    with run_lock(RunFiles(run), accelerator):
        pass
