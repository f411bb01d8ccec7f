"""Runs that are killed, told to stop, or find a damaged checkpoint, and go on as if nothing had happened."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runs.tiny import IMAGES, VIDEOS, MakeRecipe, lines_of

import cover
from cover.config.recipe import Recipe

NUM_STEPS = 20
TRAINING: dict[str, Any] = {
    "epochs": 4,
    "ema_decay": 0.9,
    "log_every": 3,
    "save_every": 7,
    "evaluate_every_epochs": 1.2,
}
KILLS_A_RUN = 3
Start = Callable[[Path], subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def recipe(recipe_of: MakeRecipe, pretrained: Path) -> Recipe:
    return recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained, training=TRAINING, data={"num_workers": 2})


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """start(folder) is `cover train recipe.toml --out run --resume` in a process group of its own, as a shell starts
    it. What still runs at the end is ended."""
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "cover.cli", "train", "recipe.toml", "--out", "run", "--resume"]
        environment = os.environ | {"PYTHONPATH": str(Path(cover.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        with (folder / "output.txt").open("ab") as output:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture(scope="module")
def undisturbed(recipe: Recipe, start: Start, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The run that nobody interrupts, and how many seconds it takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe.write(folder / "recipe.toml")
    started = time.monotonic()
    assert start(folder).wait(timeout=200) == 0
    return folder / "run", time.monotonic() - started


def assert_same(run: Path, expected: Path) -> None:
    assert lines_of(run) == lines_of(expected)
    for name in ("model.safetensors", "training.safetensors"):
        last = Path("checkpoints", f"step-{NUM_STEPS}", name)
        assert (run / last).read_bytes() == (expected / last).read_bytes(), name
    assert not list(run.glob("checkpoints/.*")), "what a killed process left behind is still there"


@pytest.mark.parametrize("number", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, 17))])
def test_a_run_killed_at_random_moments_ends_as_the_undisturbed_one(
    recipe: Recipe, start: Start, undisturbed: tuple[Path, float], tmp_path: Path, number: int
) -> None:
    """Start-up, step, save or evaluation: whatever a kill -9 hits. 17 runs x 3 kills with -m "slow or not slow"."""
    expected, seconds = undisturbed
    moments = random.Random(number)
    recipe.write(tmp_path / "recipe.toml")
    for _ in range(KILLS_A_RUN):
        process = start(tmp_path)
        time.sleep(moments.uniform(0, seconds))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(tmp_path).wait(timeout=200) == 0, (tmp_path / "output.txt").read_text()
    assert_same(tmp_path / "run", expected)


def test_signals_end_the_step_save_and_tell_by_the_exit_code(
    recipe: Recipe, start: Start, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    recipe.write(tmp_path / "recipe.toml")
    metrics, latest = tmp_path / "run" / "metrics.jsonl", tmp_path / "run" / "latest"
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        saved = latest.read_text() if latest.exists() else ""
        size = metrics.stat().st_size if metrics.exists() else 0
        process = start(tmp_path)
        while not (metrics.exists() and metrics.stat().st_size > size):  # until the run continues
            assert process.poll() is None, (tmp_path / "output.txt").read_text()
            time.sleep(0.02)
        os.killpg(process.pid, number)  # schedulers and terminals signal the decoding processes too
        assert process.wait(timeout=100) == 128 + number
        assert latest.read_text() != saved
    assert (tmp_path / "output.txt").read_text().count("interrupted and saved; continue with: cover train") == 3
    assert start(tmp_path).wait(timeout=100) == 0
    assert_same(tmp_path / "run", undisturbed[0])


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(
    recipe: Recipe, start: Start, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    recipe.write(tmp_path / "recipe.toml")
    run = shutil.copytree(undisturbed[0], tmp_path / "run")
    weights = run / "checkpoints" / f"step-{NUM_STEPS}" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert start(tmp_path).wait(timeout=100) == 0
    assert f"step-{NUM_STEPS} is damaged (model.safetensors has " in (tmp_path / "output.txt").read_text()
    assert_same(run, undisturbed[0])
