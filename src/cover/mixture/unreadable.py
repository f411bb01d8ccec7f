"""Samples that could not be decoded: named once, counted, and too many of them stop the training."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

from cover.clip import UNREADABLE, MixedBatch
from cover.errors import DecodeError

logger = logging.getLogger(__name__)

FEWEST_CLIPS = 1000
"""Fewest clips that a share is taken of, so that two bad files in the first batch do not end a run."""


class UnreadableTally:
    """What this process has read of each dataset, and what of it was unreadable.

    max_share: of any one dataset's clips, and at least of FEWEST_CLIPS of them; 0 stops at the first.
    faults: sample id -> why it could not be decoded.
    """

    def __init__(self, max_share: float) -> None:
        self.max_share = max_share
        self.faults: dict[str, str] = {}
        self._num_read: Counter[str] = Counter()
        self._num_unreadable: Counter[str] = Counter()

    def add(self, batch: MixedBatch, faults: Mapping[str, str]) -> None:
        """Count a micro-batch. Raises DecodeError when more than the share of a dataset has been unreadable."""
        for sample_id, reason in faults.items():
            if sample_id not in self.faults:
                logger.warning("%s is unreadable: %s", sample_id, reason)
        self.faults.update(faults)
        for name, clips in batch.items():
            self._num_read[name] += clips.num_clips
            self._num_unreadable[name] += int((clips.labels == UNREADABLE).sum())
            self._check(name)

    def _check(self, dataset: str) -> None:
        num_read, num_unreadable = self._num_read[dataset], self._num_unreadable[dataset]
        if num_unreadable > self.max_share * max(num_read, FEWEST_CLIPS):
            first = next(reason for sample_id, reason in self.faults.items() if sample_id.startswith(f"{dataset}/"))
            raise DecodeError(
                f"{num_unreadable} of {num_read} clips read from {dataset!r} are unreadable, more than "
                f"max_unreadable_share = {self.max_share:g} allows; mend the files or raise it. The first: {first}"
            )
