"""Samples that could not be decoded: named once, counted, and too many of them stop the training."""

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
"""The items of the lists that all processes pass, in each of them: accelerate's gather_object."""


class DecodeFailure(NamedTuple):
    """Why a clip could not be decoded: in full, naming the file, and as DecodeError.reason, to count by."""

    dataset: str
    sample_id: str
    message: str
    reason: str


class DecodeFailures:
    """Which samples of each dataset were found unreadable since training began or was resumed.

    max_share: of any one dataset's samples, rounded up, so that 1 % lets one bad file in a small folder pass; 0 stops
    at the first. sizes: samples of each dataset. num_processes: that decode parts of each step; several of them stop
    together, in `share`, a single one at once. reasons: of each dataset, sample id -> why it could not be decoded.
    """

    def __init__(self, max_share: float, sizes: Mapping[str, int], num_processes: int = 1) -> None:
        self.max_share = max_share
        self.sizes = sizes
        self.num_processes = num_processes
        self.reasons: dict[str, dict[str, str]] = {name: {} for name in sizes}
        self._forget_recent()

    def _forget_recent(self) -> None:
        self._clips: Counter[tuple[str, str]] = Counter()  # by (dataset, kind of reason), since `share`
        self._found: list[DecodeFailure] = []  # of samples not known before, since `share`

    def add(self, failures: Sequence[DecodeFailure]) -> None:
        """Note the clips of a micro-batch. Raises DecodeError, in a single process, when too many are unreadable."""
        for failure in failures:
            self._clips[failure.dataset, reason_kind(failure.reason)] += 1
            if failure.sample_id not in self.reasons[failure.dataset]:
                logger.warning("%s/%s is unreadable: %s", failure.dataset, failure.sample_id, failure.message)
                self.reasons[failure.dataset][failure.sample_id] = failure.reason
                self._found.append(failure)
        if self.num_processes == 1:
            self._check()

    def share(self, gather: Gather) -> dict[str, dict[str, int]]:
        """Learn what other processes have found since the last call, and tell them.

        Returns how many clips of each dataset were unreadable since then, by kind of reason, in all processes. Raises
        DecodeError, in all of them, when too much of a dataset is unreadable.
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
        """How many samples are unreadable for which reason, with an example."""
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
            "find all with `cover check` and replace them, or set data.max_unreadable_share higher"
        )
