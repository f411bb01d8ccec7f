"""Logits → the classes a person wants to see."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

RankedClasses = tuple[tuple[str, float], ...]
"""(class name, probability), the most probable first."""


def top_classes(logits: Tensor, class_names: Sequence[str], num_shown: int) -> RankedClasses:
    """The `num_shown` most probable classes (all, if there are fewer) for logits [classes]."""
    best = logits.softmax(0).topk(min(num_shown, len(class_names)))
    return tuple(
        (class_names[label], probability)
        for label, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    )
