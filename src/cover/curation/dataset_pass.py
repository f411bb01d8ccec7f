"""A look at every sample of a manifest, in one call or in many: interrupted ones, and shards on many machines.

rows ──▶ processes ── process(row) ──▶ log, a shard's own ──▶ all logs together ──▶ finish ──▶ manifest
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
    """The processes that look.

    num_processes: None is one for each CPU that this process may use.
    timeout_seconds: for one sample, after which its process is ended.
    """

    num_processes: int | None = None
    timeout_seconds: float = 60.0

    def work(self, process: Callable[[int], CheckResult], rows: Sequence[int], log: ResumeLog, title: str) -> None:
        """Add `process(row)` of every row to the log. One at which `process` hangs or dies is unreadable therefor."""
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
    """Something that is to be done to every sample of a manifest.

    title: for the progress bar.
    process: row → what came of it; it must pickle.
    readable: of each row what was known before; None where it has to be looked at.
    logs: where findings are kept until all are there.
    finish: makes a manifest of all findings.
    """

    manifest: Manifest
    title: str
    process: Callable[[int], CheckResult]
    readable: Sequence[bool | None]
    logs: ResumeLogs
    finish: Callable[[Mapping[int, CheckResult]], Manifest]

    def run(self, pool: Pool, *, again: bool = False) -> Manifest:
        """Do what is left to do, whatever interrupted calls and shards have done, and finish.

        again: also what was unreadable.
        """
        self._process_missing(Shard(), self.logs.results(), pool, again)
        return self.finish(self.logs.results())

    def run_shard(self, shard: Shard, pool: Pool, *, again: bool = False) -> dict[int, CheckResult]:
        """Do what is left of a shard; it is only noted, and the answer."""
        self._process_missing(shard, self.logs.of(shard).results, pool, again)
        return self.logs.of(shard).results

    def merge(self) -> Manifest:
        """Finish what was done in shards. Raises CoverError when one is missing or not done."""
        return self.finish(self.logs.merged_results())

    def _process_missing(self, shard: Shard, found: Mapping[int, CheckResult], pool: Pool, again: bool) -> None:
        readable = list(self.readable)
        for row, result in found.items():
            readable[row] = result.readable
        rows = [row for row in shard.rows(len(readable)) if readable[row] is None or (again and not readable[row])]
        with self.logs.of(shard) as log:
            pool.work(self.process, rows, log, self.title)
            log.complete()
