"""Trains and tests the runs of a study in a worker process, one after the other on one device."""

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
"""Grace period between the save signal and the next one, which ends an idle process."""


class Interrupted(Exception):
    """A signal ended the run, which has saved itself."""


def begin(devices: SimpleQueue[str]) -> None:
    """Prepare a worker process.

    It sees one GPU only, which must be set before torch looks for any; "" leaves the choice to torch. It ends when its
    parent ends, however that happens.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if device := devices.get():
        os.environ["CUDA_VISIBLE_DEVICES"] = device


def _end_with_parent() -> None:
    """Wait for the parent's end. Then have a run save itself, and end this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SECONDS_TO_SAVE)


def last_checkpoint(run: PlannedRun, folder: Path) -> Path:
    """The checkpoint after the last step of a run's recipe; it exists once the run is trained."""
    from cover.runs.plan import plan

    return RunFiles(folder).checkpoint(plan(run.recipe).num_steps)


def work(run: PlannedRun, folder: Path, tests: Tests, recorded: bool) -> dict[str, Any]:
    """Train a run, unless its folder already has it, and test it.

    Args:
        run: The run.
        folder: Its run folder.
        tests: The frame orders to test it in, by dataset.
        recorded: Whether its training has a record already; if not, the values are read from the trained run.

    Returns:
        Values to record. A run whose numbers are no longer finite is recorded as failed.

    Raises:
        Interrupted: A signal ended the run.
        CoverError: Other runs would fail in the same way.
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
    from cover.runs.compare import read_run_records
    from cover.runs.plan import plan
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

    # With the paths that the study has now: those of training may be outdated.
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
    """Append everything that is printed to a file, because several runs share the terminal."""
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        log = file.open("a", encoding="utf-8", errors="backslashreplace")
    with log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield
