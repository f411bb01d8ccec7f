"""Why samples are unreadable, counted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Sample = TypeVar("Sample", int, str)


@dataclass(frozen=True)
class ReasonCount(Generic[Sample]):
    """A reason, how many samples have it, and one of them."""

    reason: str
    count: int
    example: Sample


def reason_kind(reason: str) -> str:
    """The reason with … for its numbers: what differs in them only is one kind."""
    return re.sub(r"\d+(\.\d+)?", "…", reason)


def count_reasons(unreadable: Mapping[Sample, str]) -> list[ReasonCount[Sample]]:
    """By kind, the most frequent first; numbers are shown where all samples of a kind have the same."""
    kinds: dict[str, dict[Sample, str]] = {}
    for sample, reason in unreadable.items():
        kinds.setdefault(reason_kind(reason), {})[sample] = reason
    counts = []
    for kind, samples in kinds.items():
        same = len(set(samples.values())) == 1
        example = min(samples)
        counts.append(ReasonCount(samples[example] if same else kind, len(samples), example))
    return sorted(counts, key=lambda count: (-count.count, count.example))
