"""A look at every row of a manifest, in processes, noted in a journal as it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from cover.preparation.journal import Finding, Journal
from cover.preparation.workers import Lost, available_cpus, run_in_processes
from cover.progress import progress_bar


@dataclass(frozen=True)
class Survey:
    """How rows are looked at.

    num_processes: that work at the same time; None is one for each CPU that this process may use.
    timeout_seconds: for one row, after which its process is ended.
    """

    num_processes: int | None = None
    timeout_seconds: float = 60.0

    def run(self, look: Callable[[int], Finding], rows: Sequence[int], journal: Journal, description: str) -> None:
        """Add `look(row)` of every row to the journal, which is complete then.

        A row at which `look` hangs or dies is unreadable for that reason. `look` must pickle.
        """
        with journal, progress_bar("files", transient=True) as progress:
            bar = progress.add_task(description, total=len(rows))
            results = run_in_processes(
                look,
                rows,
                num_processes=min(self.num_processes or available_cpus(), len(rows)),
                timeout_seconds=self.timeout_seconds,
            )
            with closing(results):  # type: ignore[type-var]
                for row, found in results:
                    journal.add(row, Finding(False, found.reason) if isinstance(found, Lost) else found)
                    progress.advance(bar)
            journal.complete()
