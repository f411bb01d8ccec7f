"""The results of runs of studies: a JSON Lines file that only grows, and from which anyone can recompute a table.

    {"key": "3f1c…", "arm": "both", "seed": 0, "settings": {…}, "val": {"scenes": 0.71}, "seconds": 41.2, …}
    {"key": "3f1c…", "test": {"scenes": {"normal": {"top1": 0.69, "num_samples": 1000}}}}

Lines with the same key are about the same run; a later line adds to the earlier ones or corrects them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cover.config.layers import overlaid
from cover.core.atomic_files import append_line
from cover.errors import CoverError


@dataclass(frozen=True)
class Record:
    """The result of one run.

    Attributes:
        key, share, init_key: Those of the `PlannedRun`.
        settings: The tuned values.
        val: Validation top-1 of the trained model, by dataset.
        test: {"top1", "num_samples"} by dataset and frame order, and "pairs" (reversal accuracy) if the dataset has
            reversal pairs.
        digests, test_digests: Digests of the training and test manifests, by dataset.
        seconds: Training time.
        failed: Why the run has no result; "" if it has one.
    """

    key: str
    arm: str = ""
    seed: int = 0
    settings: dict[str, float] = field(default_factory=dict)
    share: float = 1.0
    init_key: str = ""
    val: dict[str, float] = field(default_factory=dict)
    test: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    test_digests: dict[str, str] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    device: str = ""
    torch: str = ""
    finished: str = ""
    failed: str = ""

    @property
    def mean_val(self) -> float:
        """The mean validation top-1 over the datasets; -1 for a failed run."""
        return sum(self.val.values()) / len(self.val) if self.val else -1.0


def load_records(path: Path) -> dict[str, Record]:
    """Read all runs of a file, by key; none if there is no file yet.

    Raises:
        CoverError: A line is incomplete.
    """
    values: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), start=1):
        try:
            found = json.loads(line)
            values[found["key"]] = overlaid(values.get(found["key"], {}), found)
        except (ValueError, TypeError, KeyError):
            raise CoverError(f"{path}, line {number}, is not the complete record of a run; remove it") from None
    return {key: Record(**found) for key, found in values.items()}


def append_record(path: Path, values: dict[str, Any]) -> None:
    """Add one line to a file."""
    append_line(path, json.dumps(values))
