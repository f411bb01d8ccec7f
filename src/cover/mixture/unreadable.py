"""Samples that could not be decoded: named once, counted, and too many of them stop the training."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cover.errors import DecodeError
from cover.media.reasons import count_reasons, reason_kind

logger = logging.getLogger(__name__)

Gather = Callable[[list[Any]], list[Any]]
"""The items of the lists that all processes pass, in each of them: accelerate's gather_object."""


class UnreadableTally:
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
        self._found: list[tuple[str, str, str]] = []  # (dataset, sample id, reason), since `share`

    def add(self, dataset: str, faults: Mapping[str, DecodeError]) -> None:
        """Note samples of a micro-batch, by id. Raises DecodeError, in a single process, when too many are unreadable."""
        for sample_id, error in faults.items():
            self._clips[dataset, reason_kind(error.reason)] += 1
            if sample_id not in self.reasons[dataset]:
                logger.warning("%s/%s is unreadable: %s", dataset, sample_id, error)
                self.reasons[dataset][sample_id] = error.reason
                self._found.append((dataset, sample_id, error.reason))
        if self.num_processes == 1:
            self._check(dataset)

    def share(self, gather: Gather) -> dict[str, dict[str, int]]:
        """Learn what other processes have found since the last call, and tell them.

        Returns how many clips of each dataset were unreadable since then, by kind of reason, in all processes. Raises
        DecodeError, in all of them, when too much of a dataset is unreadable.
        """
        clips: Counter[tuple[str, str]] = Counter()
        for theirs, found in gather([(self._clips, self._found)]):
            clips += theirs
            for dataset, sample_id, reason in found:
                self.reasons[dataset].setdefault(sample_id, reason)
        self._forget_recent()
        counts: dict[str, dict[str, int]] = {}
        for (dataset, kind), count in sorted(clips.items()):
            counts.setdefault(dataset, {})[kind] = count
        for dataset in counts:
            self._check(dataset)
        return counts

    def table(self) -> Table:
        """How many samples are unreadable for which reason, with an example."""
        table = Table(title="Unreadable samples", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading, justify in (("dataset", "left"), ("samples", "right"), ("reason", "left"), ("such as", "left")):
            table.add_column(heading, justify=justify)  # type: ignore[arg-type]
        for dataset, reasons in self.reasons.items():
            for count in count_reasons(reasons):
                table.add_row(dataset, f"{count.count:,}", escape(count.reason), escape(count.example))
        return table

    def _check(self, dataset: str) -> None:
        reasons = self.reasons[dataset]
        if len(reasons) <= ceil(self.max_share * self.sizes[dataset]):
            return
        counts = ", ".join(f"{count.count} {count.reason}" for count in count_reasons(reasons)[:3])
        raise DecodeError(
            f"{len(reasons)} of the {self.sizes[dataset]} samples of {dataset!r} are unreadable so far, more than "
            f"max_unreadable_share = {self.max_share:g} allows ({counts}; the first is {next(iter(reasons))}); "
            "find all with `cover check` and mend them, or pass --set data.max_unreadable_share=0.05"
        )
