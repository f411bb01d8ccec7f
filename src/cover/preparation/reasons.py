"""Why samples are unreadable, counted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cover.catalog.manifest import Manifest
from cover.preparation.journal import Finding


@dataclass(frozen=True)
class ReasonCount:
    """A reason, how many samples have it, and a row that is one of them."""

    reason: str
    count: int
    example: int


def unreadable_rows(manifest: Manifest) -> dict[int, str]:
    """Row → reason of what a check has found unreadable."""
    rows = np.flatnonzero(manifest.table["readable"].fill_null(True).to_numpy() == 0)
    reasons = manifest.table["reason"].take(rows).to_pylist()
    return dict(zip(rows.tolist(), reasons, strict=True))


def unreadable_among(findings: Mapping[int, Finding]) -> dict[int, str]:
    """Row → reason of what a shard has found unreadable."""
    return {row: str(finding.reason) for row, finding in findings.items() if not finding.readable}


def count_reasons(unreadable: Mapping[int, str]) -> list[ReasonCount]:
    """By kind, the most frequent first: reasons that differ in numbers only are one, with … for the numbers."""
    kinds: dict[str, dict[int, str]] = {}
    for row, reason in unreadable.items():
        kinds.setdefault(re.sub(r"\d+(\.\d+)?", "…", reason), {})[row] = reason
    counts = []
    for kind, rows in kinds.items():
        same = len(set(rows.values())) == 1
        example = min(rows)
        counts.append(ReasonCount(rows[example] if same else kind, len(rows), example))
    return sorted(counts, key=lambda count: (-count.count, count.example))
