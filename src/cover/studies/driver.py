"""Studies run: every arm's settings are chosen, then its seeds are trained and tested, several runs side by side.

    arm "scenes"    candidates ── chosen settings ── seeds ─────────┐
    arm "both"      candidates ── chosen settings ── seeds ──┬──────┼── Runs ── worker processes
    arm "both to …" ················· waits for its weights ─┴──────┘

An arm has a thread, which waits; the work is done in the processes. What has a record is not done again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from cover.core.atomic_files import locked
from cover.core.progress import progress_bar
from cover.studies.job_queue import JobQueue
from cover.studies.planning import Planner, check_files, check_runs, write_subsets
from cover.studies.records import Record, load_records
from cover.studies.runs import Runs
from cover.studies.spec import Study
from cover.studies.worker import begin


def run_studies(studies: Sequence[Study], out: Path, devices: Sequence[str], console: Console) -> None:
    """Do what is missing of the studies, the first ones first, in a worker process for each of `devices`.

    out: folder for run folders and manifests. devices: numbers of GPUs, one twice for two runs side by side; "" for
    what torch chooses. Records are added to each study's file of results as runs end.

    Raises CoverError, and KeyboardInterrupt; runs that were interrupted go on next time.
    """
    with _planned(studies, out) as planners:
        _run(planners, devices, console)


def describe_studies(studies: Sequence[Study], out: Path, console: Console) -> None:
    """Check studies as `run_studies` does, and print how many runs there are and are known. Raises CoverError."""
    with _planned(studies, out) as planners:
        console.print(f"{num_runs(studies)} runs; {len(known_runs(planners))} have results")


@contextmanager
def _planned(studies: Sequence[Study], out: Path) -> Iterator[list[Planner]]:
    """A planner for each study, with the folder to oneself, after whatever can be known to fail has been looked at.

    Those of the same file of results share its records.
    """
    for study in studies:
        check_files(study)
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
            console.print(describe(record), soft_wrap=True)
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
    """A future for each arm of a study, done when its runs are."""
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


def num_runs(studies: Sequence[Study]) -> int:
    """Runs of studies, of which arms of the same name are the same, with those among which settings are chosen."""
    runs: set[tuple[Path, str, int, int]] = set()
    for study in studies:
        for arm in study.needed_arms():
            num_candidates = 1 if study.arms[arm].tuned_as else len(study.grid(arm))
            first, *others = study.seeds_of(arm)
            runs |= {(study.results, arm, first, candidate) for candidate in range(num_candidates)}
            runs |= {(study.results, arm, seed, 0) for seed in others}
    return len(runs)


def known_runs(planners: Sequence[Planner]) -> set[str]:
    """The keys of those that have a record."""
    return {record.key for planner in planners for record in planner.all_recorded()}


def describe(record: Record) -> str:
    """A run in a line."""
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
