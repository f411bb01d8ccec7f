"""Windows that slide over a long video, what they say together about each moment, and the segments that follow.

A window is a clip as the model was trained on, of consecutive frames. With T = 4 frames, every 2 frames:

    frames      0  1  2  3  4  5  6  7  8  9
    windows    [0  1  2  3]
                     [2  3  4  5]
                           [4  5  6  7]
                                 [6  7  8  9]     the last one ends with the video
    moments    [ 0 ][ 0,1 ][ 1,2 ][ 2,3 ][ 3 ]    the mean of the windows that contain it
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cover.errors import CoverError
from cover.media.augment import crop, evaluation_boxes

WINDOW_SECONDS = 4.0
"""Default length: between the 3 s of Moments in Time and the 10 s of Kinetics, and that of SSv2."""
_MIN_STEP_SECONDS = 0.001

Scores = dict[str, Tensor]
"""{head: probabilities [classes]}."""


@dataclass(frozen=True)
class WindowFormat:
    """The window: `num_frames` frames spread over `window_seconds`, cut to squares of `crop_px`.

    Attributes:
        stride_seconds: From one window to the next; rounded to whole frames of the window, at least one.

    Raises:
        CoverError: The stride would leave gaps, or frames would be less than a millisecond apart.
    """

    num_frames: int
    crop_px: int
    window_seconds: float
    stride_seconds: float

    def __post_init__(self) -> None:
        if not 0 < self.stride_seconds <= self.window_seconds:
            raise CoverError(
                f"a window of {self.window_seconds:g} s cannot move by {self.stride_seconds:g} s; "
                "choose a stride above 0 and no longer than the window"
            )
        if self.step_seconds < _MIN_STEP_SECONDS:
            raise CoverError(
                f"a window of {self.window_seconds:g} s has {self.num_frames} frames less than a millisecond apart; "
                f"choose at least {self.num_frames * _MIN_STEP_SECONDS:g} s"
            )

    @property
    def step_seconds(self) -> float:
        """From one frame to the next."""
        return self.window_seconds / self.num_frames

    @property
    def stride(self) -> int:
        """The stride in frames."""
        return max(round(self.stride_seconds / self.step_seconds), 1)

    def cut(self, frame: npt.NDArray[np.uint8]) -> Tensor:
        """Cut the centre square out of a frame: uint8 [Y,X,3] → [C,Y,X]."""
        (box,) = evaluation_boxes(frame.shape[1], frame.shape[0], num_crops=1)
        return crop(frame[None], box, self.crop_px)[0]


class Window(NamedTuple):
    """A clip of consecutive frames: uint8 [T,C,Y,X], the first of them with the number `start`."""

    start: int
    frames: Tensor


class Moment(NamedTuple):
    """The scores of the frames from `start` up to, but not including, `end`."""

    start: int
    end: int
    scores: Scores


@dataclass(frozen=True)
class Segment:
    """A time span in which a head sees one class.

    Attributes:
        head: Name of the head.
        start_seconds, end_seconds: The time span.
        class_name: Name of the class.
        probability: Its mean probability in the time span.
    """

    head: str
    start_seconds: float
    end_seconds: float
    class_name: str
    probability: float


@dataclass
class _OpenSegment:
    """A segment that has not ended yet, in frames."""

    start: int
    end: int
    total: float = 0.0


def sliding_windows(frames: Iterable[Tensor], num_frames: int, stride: int) -> Iterator[Window]:
    """Cut a sequence of frames into windows.

    Args:
        frames: The frames [C,Y,X], in order.
        num_frames: T, the frames of a window.
        stride: Frames from one window to the next.

    Yields:
        A window every `stride` frames, and one that ends with the last frame. If there are fewer than T frames, one
        window that repeats the last frame.
    """
    newest: deque[Tensor] = deque(maxlen=num_frames)
    count = 0
    for count, frame in enumerate(frames, start=1):
        newest.append(frame)
        if count >= num_frames and (count - num_frames) % stride == 0:
            yield Window(count - num_frames, torch.stack(list(newest)))
    if count and (count < num_frames or (count - num_frames) % stride):
        missing = max(num_frames - count, 0)
        yield Window(max(count - num_frames, 0), torch.stack([*newest, *[newest[-1]] * missing]))


def fuse_windows(scored: Iterable[tuple[int, Scores]], num_frames: int) -> Iterator[Moment]:
    """Fuse the scores of overlapping windows: each moment has the mean of the windows that contain it.

    Args:
        scored: The number of each window's first frame, and its scores; in order.
        num_frames: The frames of a window.
    """
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
    """Compute the mean of several scores, head by head."""
    listed = list(scores)
    return {head: torch.stack([each[head] for each in listed]).mean(0) for head in listed[0]}


def find_segments(
    moments: Iterable[Moment],
    *,
    class_names: Mapping[str, Sequence[str]],
    step_seconds: float,
    top: int = 1,
    threshold: float = 0.0,
) -> list[Segment]:
    """Join moments in which a head sees the same class.

    Args:
        moments: The moments, in order.
        class_names: The classes of each head, in label order.
        step_seconds: From one frame to the next.
        top: A class counts if it is among the `top` most probable ones of its head,
        threshold: and its probability is at least this.

    Returns:
        Segments ordered by head, then by time.
    """
    running: dict[tuple[str, int], _OpenSegment] = {}
    ended: list[tuple[str, int, _OpenSegment]] = []
    for moment in moments:
        for head in class_names:
            for label, probability in _seen(moment.scores[head], top, threshold):
                segment = running.setdefault((head, label), _OpenSegment(moment.start, moment.start))
                segment.end = moment.end
                segment.total += probability * (moment.end - moment.start)
        for (head, label), segment in list(running.items()):
            if segment.end < moment.end:
                ended.append((head, label, running.pop((head, label))))
    ended += [(head, label, segment) for (head, label), segment in running.items()]
    heads = list(class_names)
    ended.sort(key=lambda entry: (heads.index(entry[0]), entry[2].start, entry[2].end))
    return [
        Segment(
            head,
            segment.start * step_seconds,
            segment.end * step_seconds,
            class_names[head][label],
            segment.total / (segment.end - segment.start),
        )
        for head, label, segment in ended
    ]


def _seen(probabilities: Tensor, top: int, threshold: float) -> list[tuple[int, float]]:
    best = probabilities.topk(min(top, len(probabilities)))
    return [
        (label, probability)
        for label, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        if probability >= threshold
    ]
