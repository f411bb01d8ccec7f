"""Studies run: every arm's settings are chosen, then its seeds are trained and tested, several runs side by side.

    arm "scenes"    candidates ── chosen settings ── seeds ─────────┐
    arm "both"      candidates ── chosen settings ── seeds ──┬──────┼── worker processes ── records
    arm "both to …" ················· waits for its weights ─┴──────┘

An arm has a thread, which waits; the work is done in the processes. What has a record is not done again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.console import Console

from cover.catalog.manifest import Manifest
from cover.errors import TrainingError
from cover.progress import progress_bar
from cover.study.planning import PlannedRun, Planner
from cover.study.records import Record, append_record, load_records
from cover.study.slots import Slots
from cover.study.spec import Study
from cover.study.subsets import write_subset
from cover.study.worker import Tests, is_trained, take_device, work


def run_studies(studies: Sequence[Study], out: Path, devices: Sequence[str], console: Console) -> None:
    """Do what is missing of the studies, the first ones first, in a worker process for each of `devices`.

    out: folder for run folders and manifests. devices: numbers of GPUs, one twice for two runs side by side; "" for
    what torch chooses. Records are added to each study's file of results as runs end.

    Raises CoverError, and KeyboardInterrupt; runs that were interrupted go on next time.
    """
    with progress_bar("runs", console) as progress:
        bar = progress.add_task("studies", total=sum(map(num_runs, studies)))
        num_arms = sum(len(study.needed_arms()) for study in studies)
        with ThreadPoolExecutor(num_arms) as threads, Slots(devices, take_device) as slots:
            records = {study.results: load_records(study.results) for study in studies}
            jobs: Jobs = {}

            settled: list[Future[None]] = []
            for priority, study in enumerate(studies):
                planner = Planner(study, records[study.results], out)
                write_subsets(planner)
                driver = _Driver(planner, records[study.results], slots, jobs, console, lambda: progress.advance(bar))
                settled += driver.start(threads, priority)
            for arm in as_completed(settled):
                arm.result()


def num_runs(study: Study) -> int:
    """Runs of a study, those among which settings are chosen included."""
    grids = [len(study.grid(arm)) for arm in study.needed_arms() if not study.arms[arm].tuned_as]
    return sum(len(study.seeds_of(arm)) for arm in study.needed_arms()) + sum(grid - 1 for grid in grids)


Jobs = dict[tuple[Path, str, bool], Future[None]]
"""Of all studies, which may share runs: (file of results, key of the run, whether it is tested, too)."""


class _Driver:
    """One study. `settled`: of each arm, done when it is."""

    def __init__(
        self,
        planner: Planner,
        records: dict[str, Record],
        slots: Slots,
        jobs: Jobs,
        console: Console,
        advance: Callable[[], None],
    ) -> None:
        """records: the planner's, to which what comes in is added. advance: is called once for each run."""
        self.planner, self.study, self.records = planner, planner.study, records
        self.slots, self.jobs, self.console, self.advance = slots, jobs, console, advance
        self.settled: dict[str, Future[None]] = {}
        self.done: set[str] = set()

    def start(self, threads: ThreadPoolExecutor, priority: int) -> list[Future[None]]:
        """Begin with every arm."""
        self.priority = priority
        for arm in self.study.needed_arms():
            self.settled[arm] = threads.submit(self._settle, arm)
        return list(self.settled.values())

    def _settle(self, arm: str) -> None:
        for other in (self.study.init_of(arm), self.study.arms[arm].tuned_as):
            if other:
                self.settled[other].result()
        self._do(self.planner.candidates(arm), test=False)
        self._do(list(self.planner.finals(arm).values()), test=True)

    def _do(self, runs: Sequence[PlannedRun], *, test: bool) -> None:
        """Have runs done side by side, and wait for them."""
        for run in runs:
            if self._missing(run, test=test) is not None:
                self._fetch_init(run)
        for run, job in [(run, self._job(run, test=test)) for run in runs]:
            job.result()
            if run.key not in self.done:
                self.done.add(run.key)
                self.advance()

    def _missing(self, run: PlannedRun, *, test: bool) -> Tests | None:
        """The tests that a run lacks, {} where it has no other record either; None where nothing is missing."""
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

    def _fetch_init(self, run: PlannedRun) -> None:
        """See to it that the weights that a run starts from are there: records are kept longer than weights."""
        init = self.planner.init_run(run.arm, run.seed)
        if init is None or is_trained(self.planner.run_folder(init.key)):
            return
        self._fetch_init(init)
        self._submitted(init, {}, test=False).result()
        if not is_trained(self.planner.run_folder(init.key)):
            raise TrainingError(f"arm {init.arm} failed, from whose weights {run.arm} starts; mend its settings")

    def _job(self, run: PlannedRun, *, test: bool) -> Future[None]:
        missing = self._missing(run, test=test)
        if missing is not None:
            return self._submitted(run, missing, test=test)
        nothing: Future[None] = Future()
        nothing.set_result(None)
        return nothing

    def _submitted(self, run: PlannedRun, tests: Tests, *, test: bool) -> Future[None]:
        """The job of a run, which other arms and studies may have submitted."""
        key = self.study.results, run.key, test
        with _SUBMITTING:
            if key not in self.jobs:
                folder = self.planner.run_folder(run.key)
                self.jobs[key] = self.slots.submit(self.priority, self._record, work, run, folder, tests)
            return self.jobs[key]

    def _record(self, values: dict[str, Any]) -> None:
        append_record(self.study.results, values)
        self.records.update(load_records(self.study.results))
        self.console.print(describe(self.records[values["key"]]), soft_wrap=True, highlight=False)


_SUBMITTING = threading.Lock()


def describe(record: Record) -> str:
    """A run in a line."""
    settings = "".join(f", {key.rpartition('.')[2]} {value:g}" for key, value in record.settings.items())
    if record.failed:
        outcome = record.failed
    elif record.test:
        scores = [(f"{name} {order}", score["top1"]) for name, by in record.test.items() for order, score in by.items()]
        outcome = "test top-1 % " + ", ".join(
            f"{name.removesuffix(' normal')} {100 * top1:.1f}" for name, top1 in scores
        )
    else:
        outcome = "validation top-1 % " + ", ".join(f"{name} {100 * top1:.1f}" for name, top1 in record.val.items())
    return f"{record.arm}, seed {record.seed}{settings}: {outcome} ({record.seconds:.0f} s)"


def write_subsets(planner: Planner) -> None:
    """Write the manifests of shares of the training samples that the study's arms see."""
    study = planner.study
    for arm in study.needed_arms():
        share = study.share_of(arm)
        for dataset in study.arms[arm].datasets if share < 1 else ():
            whole = Path(study.datasets[dataset]["train"])
            path = planner.subset_file(whole, share)
            if not path.exists():
                write_subset(Manifest.open(whole), share, path)
