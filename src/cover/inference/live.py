"""A live stream → a word whenever a head changes its mind."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from cover.inference.predict import PredictHeads
from cover.inference.windows import Scores, WindowFormat, mean_scores
from cover.media.live_stream import LiveWindow


@dataclass(frozen=True)
class Change:
    """From now on, a head gives this class. label: None where no class is probable enough any more. score: its
    probability."""

    head: str
    label: str | None
    score: float


def changes(
    predict_heads: PredictHeads,
    windows: Iterable[LiveWindow],
    *,
    class_names: Mapping[str, Sequence[str]],
    window: WindowFormat,
    threshold: float = 0.0,
) -> Iterator[Change]:
    """The most probable class of each head where it is another than before, by the mean of the windows that overlap.

    class_names: of each head, in label order. threshold: least probability of a class.
    """
    recent: deque[Scores] = deque(maxlen=-(-window.num_frames // window.stride))
    given: dict[str, str | None] = {}
    for live in windows:
        if live.is_first:
            recent.clear()
        logits = predict_heads(torch.stack([window.cut(frame) for frame in live.frames])[:, None])
        recent.append({head: logits[head][0].softmax(-1) for head in class_names})
        for head, probabilities in mean_scores(recent).items():
            best = int(probabilities.argmax())
            score = float(probabilities[best])
            label = class_names[head][best] if score >= threshold else None
            if head not in given or label != given[head]:
                given[head] = label
                yield Change(head, label, score)
