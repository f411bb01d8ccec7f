"""Moments → segments: from when to when a head gives a class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from cover.inference.window_fusion import Moment


@dataclass(frozen=True)
class Segment:
    """A time in which a head gives one class. score: its mean probability there."""

    head: str
    start_seconds: float
    end_seconds: float
    label: str
    score: float


@dataclass
class _Open:
    """A segment that is not over yet, in frames."""

    start: int
    end: int
    total: float = 0.0


def find_segments(
    moments: Iterable[Moment],
    *,
    class_names: Mapping[str, Sequence[str]],
    step_seconds: float,
    top: int = 1,
    threshold: float = 0.0,
) -> list[Segment]:
    """The times in which a class is among the `top` of its head and has at least the probability `threshold`.

    class_names: of each head, in label order. step_seconds: of one frame. Ordered by head, then by time.
    """
    running: dict[tuple[str, int], _Open] = {}
    over: list[tuple[str, int, _Open]] = []
    for moment in moments:
        for head in class_names:
            for label, probability in _given(moment.scores[head], top, threshold):
                segment = running.setdefault((head, label), _Open(moment.start, moment.start))
                segment.end = moment.end
                segment.total += probability * (moment.end - moment.start)
        for (head, label), segment in list(running.items()):
            if segment.end < moment.end:
                over.append((head, label, running.pop((head, label))))
    over += [(head, label, segment) for (head, label), segment in running.items()]
    heads = list(class_names)
    over.sort(key=lambda entry: (heads.index(entry[0]), entry[2].start, entry[2].end))
    return [
        Segment(
            head,
            segment.start * step_seconds,
            segment.end * step_seconds,
            class_names[head][label],
            segment.total / (segment.end - segment.start),
        )
        for head, label, segment in over
    ]


def _given(probabilities: Tensor, top: int, threshold: float) -> list[tuple[int, float]]:
    best = probabilities.topk(min(top, len(probabilities)))
    return [
        (label, probability)
        for label, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        if probability >= threshold
    ]
