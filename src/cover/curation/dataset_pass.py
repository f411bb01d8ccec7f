"""Process every sample of a manifest, in one call, in several after interruptions, or in shards on many machines.

rows ──▶ processes ── process(row) ──▶ log of the shard ──▶ logs of all shards ──▶ finish ──▶ manifest
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from cover.core.process_pool import Lost, available_cpus, run_in_processes
from cover.core.progress import Terminal, progress_bar
from cover.curation.resume_log import CheckResult, ResumeLog, ResumeLogs, Shard
from cover.datasets.manifest import Manifest


@dataclass(frozen=True)
class Pool:
    """The processes that do the work.

    Attributes:
        num_processes: How many; None is one for each CPU that this process may use.
        timeout_seconds: The time limit for one sample, after which its process is ended.
    """

    num_processes: int | None = None
    timeout_seconds: float = 60.0

    def work(self, process: Callable[[int], CheckResult], rows: Sequence[int], log: ResumeLog, title: str) -> None:
        """Process rows and add the results to a log. A row whose process hangs or dies counts as unreadable.

        Args:
            process: Row → result; must be picklable.
            rows: The rows to process.
            log: Where results go.
            title: Stands before the progress bar.
        """
        num_processes = min(self.num_processes or available_cpus(), len(rows))
        started = time.monotonic()
        with progress_bar("files", transient=True) as progress:
            bar = progress.add_task(title, total=len(rows))
            results = run_in_processes(process, rows, num_processes=num_processes, timeout_seconds=self.timeout_seconds)
            with closing(results):
                for row, found in results:
                    log.add(row, CheckResult(False, found.reason) if isinstance(found, Lost) else found)
                    progress.advance(bar)
        if rows:
            seconds = time.monotonic() - started
            report = f"{title}: {len(rows):,} files in {seconds:,.0f} s ({len(rows) / seconds:,.1f} files/s)"
            Terminal(stderr=True).print(report, soft_wrap=True)


@dataclass(frozen=True)
class DatasetPass:
    """Work that is done on every sample of a manifest.

    Attributes:
        manifest: The manifest.
        title: Stands before the progress bar.
        process: Row → result; must be picklable.
        readable: What is already known about each row; None if it still has to be processed.
        logs: Where results are kept until all rows are done.
        finish: Makes a manifest from all results.
    """

    manifest: Manifest
    title: str
    process: Callable[[int], CheckResult]
    readable: Sequence[bool | None]
    logs: ResumeLogs
    finish: Callable[[Mapping[int, CheckResult]], Manifest]

    def run(self, pool: Pool, *, again: bool = False) -> Manifest:
        """Process what earlier calls and shards have not done yet, and finish.

        Args:
            pool: The processes that do the work.
            again: Process unreadable samples again.

        Returns:
            The manifest with all results.
        """
        self._process_missing(Shard(), self.logs.results(), pool, again)
        return self.finish(self.logs.results())

    def run_shard(self, shard: Shard, pool: Pool, *, again: bool = False) -> dict[int, CheckResult]:
        """Process what is left of a shard, and only record the results.

        Args:
            shard: Which part of the rows.
            pool: The processes that do the work.
            again: Process unreadable samples again.

        Returns:
            All results of the shard: row → result.
        """
        self._process_missing(shard, self.logs.of(shard).results, pool, again)
        return self.logs.of(shard).results

    def merge(self) -> Manifest:
        """Finish after all shards are done.

        Returns:
            The manifest with all results.

        Raises:
            CoverError: A shard is missing or not complete.
        """
        return self.finish(self.logs.merged_results())

    def _process_missing(self, shard: Shard, found: Mapping[int, CheckResult], pool: Pool, again: bool) -> None:
        readable = list(self.readable)
        for row, result in found.items():
            readable[row] = result.readable
        rows = [row for row in shard.rows(len(readable)) if readable[row] is None or (again and not readable[row])]
        with self.logs.of(shard) as log:
            pool.work(self.process, rows, log, self.title)
            log.complete()
