"""What a column of a table shows of a dataset."""

from __future__ import annotations

from typing import Literal

from cover.evaluation.sample_views import FRAME_ORDERS, FrameOrder

PAIRS: Literal["pairs"] = "pairs"
VALIDATION: Literal["val"] = "val"
Measure = FrameOrder | Literal["pairs", "val"]
MEASURES: tuple[Measure, ...] = (*FRAME_ORDERS, PAIRS, VALIDATION)


def measure_of(column: str) -> tuple[str, Measure]:
    """A column's dataset and what is shown of it: test top-1 in a frame order, PAIRS, or VALIDATION.

    Raises ValueError.
    """
    dataset, _, measure = column.partition(" ")
    for known in MEASURES:
        if known == (measure or "normal"):
            return dataset, known
    raise ValueError(f"column {column!r} shows {measure!r}, which is not measured; known are {', '.join(MEASURES)}")
