"""What overlapping windows say together about each moment.

frames      0  1  2  3  4  5  6  7  8  9
windows    [0  1  2  3]                        T = 4 frames, every 2 frames; the last ends with the video
                 [2  3  4  5]
                       [4  5  6  7]
                             [6  7  8  9]
moments    [ 0 ][ 0,1 ][ 1,2 ][ 2,3 ][ 3 ]     the mean of the windows that contain it
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

Scores = dict[str, Tensor]
"""{head: probabilities [classes]}."""


class Moment(NamedTuple):
    """Frames `start` to `end`, which is not of them, and the scores that they have."""

    start: int
    end: int
    scores: Scores


def moments(scored: Iterable[tuple[int, Scores]], num_frames: int) -> Iterator[Moment]:
    """From windows of `num_frames` frames, each with its first frame's number and its scores, in order."""
    covering: deque[tuple[int, Scores]] = deque()
    position = 0

    def until(end: int) -> Iterator[Moment]:
        nonlocal position
        while position < end:
            while covering[0][0] + num_frames <= position:
                covering.popleft()
            start, position = position, min(end, covering[0][0] + num_frames)
            yield Moment(start, position, mean_scores([scores for _, scores in covering]))

    start = 0
    for start, scores in scored:
        yield from until(start)
        covering.append((start, scores))
    if covering:
        yield from until(start + num_frames)


def mean_scores(scores: Iterable[Scores]) -> Scores:
    """The mean of several scores, head by head."""
    listed = list(scores)
    return {head: torch.stack([each[head] for each in listed]).mean(0) for head in listed[0]}
