"""Runs studies: chooses every arm's settings, then trains and tests its seeds, several runs side by side.

    arm "scenes"    candidates ── chosen settings ── seeds ─────────┐
    arm "both"      candidates ── chosen settings ── seeds ──┬──────┼── Runs ── worker processes
    arm "both to …" ················· waits for its weights ─┴──────┘

Each arm has a thread, which only waits; the processes do the work. A run that has a record is not done again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from cover.core.atomic_files import locked
from cover.core.progress import progress_bar
from cover.errors import TrainingError
from cover.studies.job_queue import JobQueue
from cover.studies.planning import PlannedRun, Planner, check_inputs, check_runs, write_subsets
from cover.studies.records import Record, append_record, load_records
from cover.studies.spec import Study
from cover.studies.worker import Tests, begin, last_checkpoint, work


def run_studies(studies: Sequence[Study], out: Path, devices: Sequence[str], console: Console) -> None:
    """Do what is missing of some studies, the first study first.

    Runs that are interrupted continue with the next call.

    Args:
        studies: The studies. Each one's results file grows by a record when a run ends.
        out: Folder for run folders and manifests.
        devices: Numbers of GPUs, one worker process each; a number given twice has two runs side by side. "" is the
            device that torch chooses.
        console: Where each result is printed.

    Raises:
        CoverError: A study cannot be run, or a run failed in a way that would end all others too.
        KeyboardInterrupt: The user stopped; running ones have saved themselves.
    """
    with _planned(studies, out) as planners:
        _run(planners, devices, console)


def describe_studies(studies: Sequence[Study], out: Path, console: Console) -> None:
    """Check studies as `run_studies` does, and print how many runs there are and how many have results.

    Raises:
        CoverError: A study cannot be run.
    """
    with _planned(studies, out) as planners:
        console.print(f"{num_runs(studies)} runs; {len(known_runs(planners))} have results")


@contextmanager
def _planned(studies: Sequence[Study], out: Path) -> Iterator[list[Planner]]:
    """A planner for each study, checked, while no other command uses the folder. Planners of one file share records."""
    for study in studies:
        check_inputs(study)
    with locked(out / "study.lock", f"another cover study that works in {out}"):
        records = {path: load_records(path) for path in {study.results for study in studies}}
        planners = [Planner(study, records[study.results], out) for study in studies]
        for planner in planners:
            write_subsets(planner)
            check_runs(planner)
        yield planners


def _run(planners: Sequence[Planner], devices: Sequence[str], console: Console) -> None:
    studies = [planner.study for planner in planners]
    num_arms = sum(len(study.needed_arms()) for study in studies)
    with (
        progress_bar("runs", console) as progress,
        ThreadPoolExecutor(num_arms) as threads,
        JobQueue(devices, begin) as queue,
    ):
        known = known_runs(planners)
        bar = progress.add_task("studies", total=num_runs(studies), completed=len(known))

        def report(record: Record) -> None:
            console.print(result_line(record), soft_wrap=True)
            known.add(record.key)
            progress.update(bar, completed=len(known))

        files = {(path := planner.study.results): Runs(path, planner.records, queue, report) for planner in planners}
        settled: list[Future[None]] = []
        for priority, planner in enumerate(planners):
            settled += start_arms(planner, files[planner.study.results], threads, priority)
        for arm in as_completed(settled):
            arm.result()
        progress.update(bar, completed=num_runs(studies))


def start_arms(planner: Planner, runs: Runs, threads: ThreadPoolExecutor, priority: int) -> list[Future[None]]:
    """Start the runs of a study.

    Args:
        planner: The study's planner.
        runs: The runs of its results file.
        threads: Has a thread for each arm, which waits.
        priority: Runs with the lowest number go first.

    Returns:
        A future for each arm, which is done when its runs are.
    """
    study = planner.study
    settled: dict[str, Future[None]] = {}

    def settle(arm: str) -> None:
        for other in filter(None, (study.init_arm(arm), study.arms[arm].tuned_as)):
            settled[other].result()
        runs.do(planner.candidates(arm), planner, priority, test=False)
        runs.do(list(planner.finals(arm).values()), planner, priority, test=True)

    for arm in study.needed_arms():
        settled[arm] = threads.submit(settle, arm)
    return list(settled.values())


class Runs:
    """All runs that go into one results file. Each is done once, even if several arms or studies need it.

    Args:
        results: The file.
        records: The results so far, by key; new ones are added.
        queue: Where the runs are done.
        report: Called with each new record.
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
        """Do what is missing of some runs, side by side, and wait for all of them.

        Args:
            runs: The runs.
            planner: The planner of their study.
            priority: Runs with the lowest number go first.
            test: Test the runs, not just train them.

        Raises:
            CoverError: A run failed in a way that would end all others too.
            CancelledError: The user stopped.
        """
        while missing := [run for run in runs if self._missing(run, test=test) is not None]:
            for run in missing:
                self._fetch_init(run, planner, priority)
            with self._submitting:  # another thread may have submitted some of them meanwhile
                lacking = [(run, self._missing(run, test=test)) for run in missing]
                jobs = [self._job(run, tests, planner, priority) for run, tests in lacking if tests is not None]
            for job in jobs:
                job.result()

    def _missing(self, run: PlannedRun, *, test: bool) -> Tests | None:
        """The tests that a run lacks, {} if it only has to be trained; None if nothing is missing."""
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
        """Make sure that a run's initial weights exist: users keep records longer than weights."""
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
        """The job of a run: the one in progress if there is one, else a new one. The caller holds the lock."""
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
    """The run with an `init` that names the last checkpoint of the run it starts from; a folder would mean the best."""
    init = planner.init_run(run.arm, run.seed)
    if init is None:
        return run
    weights = last_checkpoint(init, planner.run_folder(init.key))
    return replace(run, recipe=run.recipe.model_copy(update={"init": str(weights)}))


def num_runs(studies: Sequence[Study]) -> int:
    """Count the runs of studies, including those that choose settings. Studies of one file share arms by name."""
    runs: set[tuple[Path, str, int, int]] = set()
    for study in studies:
        for arm in study.needed_arms():
            num_candidates = 1 if study.arms[arm].tuned_as else len(study.grid(arm))
            first, *others = study.seeds_of(arm)
            runs |= {(study.results, arm, first, candidate) for candidate in range(num_candidates)}
            runs |= {(study.results, arm, seed, 0) for seed in others}
    return len(runs)


def known_runs(planners: Sequence[Planner]) -> set[str]:
    """The keys of the runs that have a record."""
    return {record.key for planner in planners for record in planner.all_recorded()}


def result_line(record: Record) -> str:
    """Describe a run in one line."""
    settings = "".join(f", {key.rpartition('.')[2]} {value:g}" for key, value in record.settings.items())
    if record.failed:
        outcome = record.failed
    elif record.test:
        scores = [(name, order, score) for name, by_order in record.test.items() for order, score in by_order.items()]
        outcome = "test top-1 % " + ", ".join(
            f"{name} {order} {100 * score['top1']:.1f}".replace(" normal", "") for name, order, score in scores
        )
    else:
        outcome = "validation top-1 % " + ", ".join(f"{name} {100 * top1:.1f}" for name, top1 in record.val.items())
    return f"{record.arm}, seed {record.seed}{settings}: {outcome} ({record.seconds:.0f} s)"
