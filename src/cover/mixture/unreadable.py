"""Samples that could not be decoded: named once, counted, and too many of them stop the training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import ceil

from cover.errors import DecodeError

logger = logging.getLogger(__name__)


class UnreadableTally:
    """Which samples of each dataset this process has found unreadable.

    max_share: of any one dataset's samples, rounded up, so that 1 % lets one bad file in a small folder pass; 0 stops
    at the first. sizes: samples of each dataset. faults: sample id -> why it could not be decoded.
    """

    def __init__(self, max_share: float, sizes: Mapping[str, int]) -> None:
        self.max_share = max_share
        self.sizes = sizes
        self.faults: dict[str, str] = {}

    def add(self, faults: Mapping[str, str]) -> None:
        """Note the faults of a micro-batch. Raises DecodeError when too much of a dataset is unreadable."""
        for sample_id, reason in faults.items():
            if sample_id not in self.faults:
                logger.warning("%s is unreadable: %s", sample_id, reason)
                self.faults[sample_id] = reason
                self._check(sample_id.split("/")[0])

    def _check(self, dataset: str) -> None:
        reasons = [reason for sample_id, reason in self.faults.items() if sample_id.startswith(f"{dataset}/")]
        if len(reasons) > ceil(self.max_share * self.sizes[dataset]):
            raise DecodeError(
                f"{len(reasons)} of the {self.sizes[dataset]} samples of {dataset!r} are unreadable so far, more than "
                f"max_unreadable_share = {self.max_share:g} allows; mend the files, or pass "
                f"--set data.max_unreadable_share=0.05. The first: {reasons[0]}"
            )
