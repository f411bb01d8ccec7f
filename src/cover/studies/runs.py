"""The runs of studies: done once, whoever asks for them, and recorded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from cover.errors import TrainingError
from cover.studies.job_queue import JobQueue
from cover.studies.planning import PlannedRun, Planner
from cover.studies.records import Record, append_record, load_records
from cover.studies.worker import Tests, last_checkpoint, work


class Runs:
    """All runs that go into one file of results.

    results: that file. records: what is known by now, by key; what comes in is added. queue: where runs are done.
    report: is told of each record that comes in.
    """

    def __init__(
        self, results: Path, records: dict[str, Record], queue: JobQueue, report: Callable[[Record], None]
    ) -> None:
        self.results = results
        self.records = records
        self._queue, self._report = queue, report
        self._jobs: dict[str, Future[None]] = {}
        self._submitting = threading.Lock()

    def do(self, runs: Sequence[PlannedRun], planner: Planner, priority: int, *, test: bool) -> None:
        """Train runs, and test them if `test`, side by side, as far as that is missing; returns when it is done.

        Raises what a run ends with, and CancelledError.
        """
        while missing := [run for run in runs if self._missing(run, test=test) is not None]:
            for run in missing:
                self._fetch_init(run, planner, priority)
            with self._submitting:  # what another thread has had done meanwhile is not done again
                lacking = [(run, self._missing(run, test=test)) for run in missing]
                jobs = [self._job(run, tests, planner, priority) for run, tests in lacking if tests is not None]
            for job in jobs:
                job.result()

    def _missing(self, run: PlannedRun, *, test: bool) -> Tests | None:
        """The tests that a run lacks, {} if it is to be trained only; None where nothing is missing."""
        record = self.records.get(run.key)
        if record and (record.failed or not test):
            return None
        known = record.test if record else {}
        lacking = {
            name: tuple(order for order in orders if order not in known.get(name, {}))
            for name, orders in (run.tests if test else {}).items()
        }
        lacking = {name: orders for name, orders in lacking.items() if orders}
        return None if record and not lacking else lacking

    def _fetch_init(self, run: PlannedRun, planner: Planner, priority: int) -> None:
        """Make sure that the weights that a run starts from are there: records are kept longer than weights."""
        init = planner.init_run(run.arm, run.seed)
        if init is None or (weights := last_checkpoint(init, planner.run_folder(init.key))).exists():
            return
        self._fetch_init(init, planner, priority)
        with self._submitting:
            job = self._job(init, {}, planner, priority)
        job.result()
        if not weights.exists():
            raise TrainingError(f"arm {init.arm} failed, and {run.arm} starts from its weights; change its settings")

    def _job(self, run: PlannedRun, tests: Tests, planner: Planner, priority: int) -> Future[None]:
        """A job of the run: one that others have asked for, while that lasts, or else a new one. Needs the lock."""
        job = self._jobs.get(run.key)
        if job is None or job.done():
            folder = planner.run_folder(run.key)
            recorded = run.key in self.records
            arguments = (_from_last_weights(run, planner), folder, tests, recorded)
            job = self._jobs[run.key] = self._queue.submit(priority, self._record, work, *arguments)
        return job

    def _record(self, values: dict[str, Any]) -> None:
        append_record(self.results, values)
        self.records.update(load_records(self.results))
        self._report(self.records[values["key"]])


def _from_last_weights(run: PlannedRun, planner: Planner) -> PlannedRun:
    """The run with the last weights of the one that it starts from named; of a run, the best ones would be taken."""
    init = planner.init_run(run.arm, run.seed)
    if init is None:
        return run
    weights = last_checkpoint(init, planner.run_folder(init.key))
    return replace(run, recipe=run.recipe.model_copy(update={"init": str(weights)}))
