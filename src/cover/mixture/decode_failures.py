"""Samples that could not be decoded: each is reported once and counted, and too many of them stop the training."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cover.errors import DecodeError
from cover.media.failures import count_reasons, reason_kind

logger = logging.getLogger(__name__)

Gather = Callable[[list[Any]], list[Any]]
"""A function that returns, in every process, the items of the lists that all processes pass (accelerate's
gather_object).
"""


class DecodeFailure(NamedTuple):
    """A clip that could not be decoded.

    Attributes:
        dataset: The name of the dataset.
        sample_id: The id of the sample.
        message: The whole error, which names the file.
        reason: `DecodeError.reason`, by which failures are counted.
    """

    dataset: str
    sample_id: str
    message: str
    reason: str


class DecodeFailures:
    """The samples of each dataset that were found unreadable since training started or was resumed.

    Args:
        max_share: The largest share of any dataset's samples that may be unreadable. The number is rounded up, so that
            1 % lets one bad file in a small dataset pass; 0 stops at the first one.
        sizes: The number of samples of each dataset.
        num_processes: How many processes decode parts of each step. Several processes stop together, in `share`; a
            single process stops at once.

    Attributes:
        reasons: For each dataset, sample id → reason.
    """

    def __init__(self, max_share: float, sizes: Mapping[str, int], num_processes: int = 1) -> None:
        self.max_share = max_share
        self.sizes = sizes
        self.num_processes = num_processes
        self.reasons: dict[str, dict[str, str]] = {name: {} for name in sizes}
        self._forget_recent()

    def _forget_recent(self) -> None:
        self._clips: Counter[tuple[str, str]] = Counter()  # (dataset, kind of reason) → clips since the last `share`
        self._found: list[DecodeFailure] = []  # samples that are new since the last `share`

    def add(self, failures: Sequence[DecodeFailure]) -> None:
        """Record the failures of a micro-batch.

        Raises:
            DecodeError: Too many samples are unreadable; only with a single process.
        """
        for failure in failures:
            self._clips[failure.dataset, reason_kind(failure.reason)] += 1
            if failure.sample_id not in self.reasons[failure.dataset]:
                logger.warning("%s/%s is unreadable: %s", failure.dataset, failure.sample_id, failure.message)
                self.reasons[failure.dataset][failure.sample_id] = failure.reason
                self._found.append(failure)
        if self.num_processes == 1:
            self._check()

    def share(self, gather: Gather) -> dict[str, dict[str, int]]:
        """Exchange what processes have found since the last call.

        Args:
            gather: Collects the lists of all processes.

        Returns:
            How many clips of each dataset could not be decoded since the last call, in all processes: dataset → reason
                with … for numbers → count.

        Raises:
            DecodeError: Too many samples of a dataset are unreadable; in all processes.
        """
        clips: Counter[tuple[str, str]] = Counter()
        for theirs, found in gather([(self._clips, self._found)]):
            clips += theirs
            for failure in found:
                self.reasons[failure.dataset].setdefault(failure.sample_id, failure.reason)
        self._forget_recent()
        counts: dict[str, dict[str, int]] = {}
        for (dataset, kind), count in sorted(clips.items()):
            counts.setdefault(dataset, {})[kind] = count
        self._check()
        return counts

    def table(self) -> Table:
        """Return a table of the number of unreadable samples for each reason, with an example."""
        table = Table(title="Unreadable samples", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading, justify in (("dataset", "left"), ("samples", "right"), ("reason", "left"), ("such as", "left")):
            table.add_column(heading, justify=justify)  # type: ignore[arg-type]
        for dataset, reasons in self.reasons.items():
            for count in count_reasons(reasons):
                table.add_row(dataset, f"{count.count:,}", count.reason, count.example)
        return table

    def _check(self) -> None:
        for dataset, reasons in self.reasons.items():
            if len(reasons) > ceil(self.max_share * self.sizes[dataset]):
                raise self._error(dataset, reasons)

    def _error(self, dataset: str, reasons: Mapping[str, str]) -> DecodeError:
        counts = ", ".join(f"{count.count} {count.reason}" for count in count_reasons(reasons)[:3])
        return DecodeError(
            f"{len(reasons)} of the {self.sizes[dataset]} samples of {dataset!r} are unreadable so far, more than "
            f"max_unreadable_share = {self.max_share:g} allows ({counts}; the first is {next(iter(reasons))}); "
            "find them all with `cover check` and replace them, or raise data.max_unreadable_share"
        )
