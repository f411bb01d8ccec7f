"""What runs of studies came to: a JSON Lines file that only grows, for anyone to recompute a table from.

    {"key": "3f1c…", "arm": "both", "seed": 0, "settings": {…}, "val": {"scenes": 0.71}, "seconds": 41.2, …}
    {"key": "3f1c…", "test": {"scenes": {"normal": {"top1": 0.69, "num_samples": 1000}}}}

Lines of the same key tell of the same run; a later one adds to what the earlier ones say, or corrects it.
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
    """One run.

    key, share, init_key: of what was run (studies/planning.py). settings: the tuned values. val: validation top-1 of
    the trained model, by dataset. test: by dataset and frame order, {"top1", "num_samples"}, and "pairs" of datasets
    that have some. digests, test_digests: of the training and test manifests, by dataset. seconds: of training. failed:
    why it has no result, if so.
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
        """Mean validation top-1 over the datasets; below any other for a run that failed."""
        return sum(self.val.values()) / len(self.val) if self.val else -1.0


def load_records(path: Path) -> dict[str, Record]:
    """All runs of a file, by key; none where there is no file yet. Raises CoverError for a line that was cut off."""
    values: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), start=1):
        try:
            found = json.loads(line)
            values[found["key"]] = overlaid(values.get(found["key"], {}), found)
        except (ValueError, TypeError, KeyError):
            raise CoverError(f"{path}, line {number}, is not a whole line of a run; take it out") from None
    return {key: Record(**found) for key, found in values.items()}


def append_record(path: Path, values: dict[str, Any]) -> None:
    """Add one line."""
    append_line(path, json.dumps(values))
