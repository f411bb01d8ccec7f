"""Runs that are killed, told to stop, or find a damaged checkpoint, and continue as if nothing had happened."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.processes import TRAINING
from tests.runs.tiny import IMAGES, LESS, SAMPLING, VIDEOS, MakeRecipe, lines_of

import cover.cli
from cover.config.recipe import Recipe

NUM_STEPS = 20
SETTINGS: dict[str, Any] = {
    "epochs": 4,
    "ema_decay": 0.9,
    "projection_weight": 0.5,
    "log_every": 3,
    "save_every": 7,
    "evaluate_every_epochs": 1.2,
}
KILLS_A_RUN = 3


class Strike(NamedTuple):
    """A signal to the process group of a run: schedulers and terminals signal the decoding processes, too.

    It comes just before the run touches one of its files for the `moment`-th time, counted from 0; `name` restricts
    the count to files whose path ends like this.
    """

    moment: int
    number: signal.Signals
    name: str = ""


NEVER = Strike(-1, signal.SIGKILL)
Start = Callable[[Path, Strike], ForkServerProcess]


def train(folder: Path, strike: Strike) -> None:
    """The process of `cover train recipe.toml --out run --resume`, in a group of its own, as a shell starts it.

    It prints into `output.txt` and leaves the number of moments in `moments`.
    """
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whatever thread has started the fork server
    os.chdir(folder)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    trainer, moments = os.getpid(), itertools.count()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if os.getpid() != trainer or not touches_run(event, arguments) or not str(arguments[0]).endswith(strike.name):
            return
        if next(moments) == strike.moment:
            os.killpg(trainer, strike.number)

    sys.addaudithook(note)
    sys.argv = ["cover", "train", "recipe.toml", "--out", "run", "--resume"]
    try:
        cover.cli.main()
    finally:
        Path("moments").write_text(str(next(moments)))


def touches_run(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an audit event of Python opens, makes, renames or deletes a file of the run. TensorBoard's many writes
    do not count."""
    if event in ("os.remove", "os.rmdir"):  # their paths are relative to an open folder
        return True
    path = str(arguments[0]) if event in ("open", "os.mkdir", "os.rename") else ""
    return path.startswith("run/") and not path.startswith("run/tensorboard")


@pytest.fixture(scope="module")
def recipe(recipe_of: MakeRecipe, pretrained: Path) -> Recipe:
    sampling = SAMPLING | {"training": SETTINGS, "data": {"num_workers": 2, **SAMPLING["data"]}}
    return recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained, optimizer=LESS, **sampling)


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """start(folder, strike) calls `train` in a process. Those that still run at the end are killed."""
    started: list[ForkServerProcess] = []

    def start(folder: Path, strike: Strike) -> ForkServerProcess:
        process = TRAINING.Process(target=train, args=(folder, strike))
        process.start()
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            if process.is_alive():
                process.kill()
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()


def ended(process: ForkServerProcess) -> int | None:
    """The exit code of a process, once it has ended."""
    process.join(timeout=200)
    return process.exitcode


@pytest.fixture(scope="module")
def undisturbed(recipe: Recipe, start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run that nobody interrupts, and of its number of moments."""
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe.write(folder / "recipe.toml")
    assert ended(start(folder, NEVER)) == 0
    return folder


def assert_same(run: Path, expected: Path) -> None:
    assert lines_of(run) == lines_of(expected)
    for name in ("model.safetensors", "training.safetensors"):
        last = Path("checkpoints", f"step-{NUM_STEPS}", name)
        assert (run / last).read_bytes() == (expected / last).read_bytes(), name
    assert not list(run.glob("checkpoints/.*")), "what a killed process left behind is still there"


@pytest.mark.parametrize("number", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, 17))])
def test_a_run_killed_at_random_moments_ends_as_the_undisturbed_one(
    recipe: Recipe, start: Start, undisturbed: Path, tmp_path: Path, number: int
) -> None:
    """At the start, between steps, in the middle of a save or an evaluation. 17 runs × 3 kills with
    -m "slow or not slow"."""
    random_moments = random.Random(number)
    recipe.write(tmp_path / "recipe.toml")
    for _ in range(KILLS_A_RUN):
        moment = random_moments.randrange(int((undisturbed / "moments").read_text()) // 2)
        exit_code = ended(start(tmp_path, Strike(moment, signal.SIGKILL)))
        assert exit_code in (-signal.SIGKILL, 0)  # 0: the kill before came so late that little was left to do
    assert ended(start(tmp_path, NEVER)) == 0, (tmp_path / "output.txt").read_text()
    assert_same(tmp_path / "run", undisturbed / "run")


def test_signals_end_the_step_save_and_tell_by_the_exit_code(
    recipe: Recipe, start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    recipe.write(tmp_path / "recipe.toml")
    latest, saved = tmp_path / "run" / "latest", ""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        process = start(tmp_path, Strike(1, number, "metrics.jsonl"))
        assert ended(process) == 128 + number, (tmp_path / "output.txt").read_text()
        assert latest.read_text() != saved
        saved = latest.read_text()
    assert (tmp_path / "output.txt").read_text().count("interrupted and saved; continue with: cover train") == 3
    assert ended(start(tmp_path, NEVER)) == 0
    assert_same(tmp_path / "run", undisturbed / "run")


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(
    recipe: Recipe, start: Start, undisturbed: Path, tmp_path: Path
) -> None:
    recipe.write(tmp_path / "recipe.toml")
    run = shutil.copytree(undisturbed / "run", tmp_path / "run")
    weights = run / "checkpoints" / f"step-{NUM_STEPS}" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert ended(start(tmp_path, NEVER)) == 0
    assert f"step-{NUM_STEPS} is damaged (model.safetensors has " in (tmp_path / "output.txt").read_text()
    assert_same(run, undisturbed / "run")
