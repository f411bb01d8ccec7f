"""One run of a study, trained and tested, in a process that does one after the other on one device."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from multiprocessing import SimpleQueue
from pathlib import Path
from typing import Any

from cover.core.atomic_files import writing
from cover.core.run_files import RunFiles
from cover.errors import CoverError, TrainingError
from cover.evaluation.result import DatasetResult
from cover.evaluation.sample_views import FrameOrder
from cover.studies.planning import LOCATION_KEYS, PlannedRun
from cover.studies.spec import PAIRS

Tests = Mapping[str, tuple[FrameOrder, ...]]
SECONDS_TO_SAVE = 10
"""Between the signal that has a run save itself, and the next, which ends a process that does nothing any more."""


class Interrupted(Exception):
    """A signal ended the run; what it has done is saved."""


def begin(devices: SimpleQueue[str]) -> None:
    """Have this process see one GPU alone, before torch has looked for any; "" leaves things as they are.

    It ends when its parent does, however that was ended.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if device := devices.get():
        os.environ["CUDA_VISIBLE_DEVICES"] = device


def _end_with_parent() -> None:
    """Saves what is being trained, and ends this process once nothing is."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SECONDS_TO_SAVE)


def last_checkpoint(run: PlannedRun, folder: Path) -> Path:
    """The folder with the weights after the last step of the run's recipe; it is there once the run is trained."""
    from cover.runs.data import training_manifests
    from cover.runs.plan import training_length

    _, num_steps = training_length(run.recipe, training_manifests(run.recipe))
    return RunFiles(folder).checkpoint(num_steps)


def work(run: PlannedRun, folder: Path, tests: Tests, recorded: bool) -> dict[str, Any]:
    """Train a run, unless its folder has it, and test it. Returns what is to be recorded.

    recorded: whether it is known what training came to; if not, what a trained run has left is read. A run whose
    numbers are no longer finite is recorded as failed. Raises Interrupted, and CoverError for what would end any run.
    """
    values: dict[str, Any] = {"key": run.key}
    with _output_to(folder / "log.txt"):
        try:
            if not recorded or not last_checkpoint(run, folder).exists():
                values |= _train(run, folder)
            return values | (_test(run, folder, tests) if tests else {})
        except TrainingError as error:
            return values | _identity(run) | {"failed": str(error), "finished": date.today().isoformat()}
        except CoverError as error:
            raise CoverError(f"arm {run.arm}, seed {run.seed}: {error}") from None


def _train(run: PlannedRun, folder: Path) -> dict[str, Any]:
    import torch

    from cover.core.progress import Terminal
    from cover.runs.plan import plan
    from cover.runs.record import read_run_records
    from cover.runs.train import train

    started = time.monotonic()
    planned = plan(run.recipe)
    if train(planned, folder, Terminal(width=100), resume=True):
        raise Interrupted
    left = read_run_records([folder])[0]
    seconds = max(time.monotonic() - started, *(line["seconds"] for line in left.training[-1:]))
    return _identity(run) | {
        "val": {name: scores["top1"] for name, scores in left.validation[-1]["val"].items()},
        "digests": {name: manifest.digest for name, manifest in planned.data.training.items()},
        "seconds": round(seconds, 1),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "finished": date.today().isoformat(),
        "failed": "",
    }


def _identity(run: PlannedRun) -> dict[str, Any]:
    return {
        "arm": run.arm,
        "seed": run.seed,
        "settings": run.settings,
        "share": run.share,
        "init_key": run.init_key,
        "recipe": run.recipe.model_dump(mode="json", exclude_none=True, exclude=LOCATION_KEYS),
    }


def _test(run: PlannedRun, folder: Path, tests: Tests) -> dict[str, Any]:
    from cover.runs.trained import TrainedRun

    # with the paths that the study has now, which may not be those that the run was trained with
    trained = replace(TrainedRun.open(last_checkpoint(run, folder)), recipe=run.recipe)
    manifests = {name: trained.manifest(name, "test") for name in tests}
    scores = {
        name: {order: _scores(trained.evaluate(name, manifests[name], order)) for order in orders}
        for name, orders in tests.items()
    }
    return {"test": scores, "test_digests": {name: manifest.digest for name, manifest in manifests.items()}}


def _scores(result: DatasetResult) -> dict[str, float]:
    pairs = {} if result.pair_accuracy is None else {PAIRS: result.pair_accuracy}
    return {"top1": result.top1, "num_samples": result.num_samples} | pairs


@contextlib.contextmanager
def _output_to(file: Path) -> Iterator[None]:
    """What is printed goes to the end of a file: several runs share the terminal."""
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        log = file.open("a", encoding="utf-8", errors="backslashreplace")
    with log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield
