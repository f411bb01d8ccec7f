"""Windows that slide over a long video: clips, as the model was trained on, of consecutive frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cover.errors import CoverError
from cover.media.augment import crop, evaluation_boxes

_LEAST_STEP_SECONDS = 0.001
WINDOW_SECONDS = 4.0
"""Where nothing is said: between the 3 s of Moments in Time and the 10 s of Kinetics, and that of SSv2."""


@dataclass(frozen=True)
class WindowFormat:
    """A window that slides over a video: `num_frames` frames spread over `window_seconds`, squares of `crop_px`.

    stride_seconds: how far it is moved; rounded to whole frames of the window, at least one.

    Raises CoverError for a stride that would leave gaps, and for frames less than a millisecond apart.
    """

    num_frames: int
    crop_px: int
    window_seconds: float
    stride_seconds: float

    def __post_init__(self) -> None:
        if not 0 < self.stride_seconds <= self.window_seconds:
            raise CoverError(
                f"a window of {self.window_seconds:g} s every {self.stride_seconds:g} s; "
                "both are above 0, and the stride is no longer than the window"
            )
        if self.step_seconds < _LEAST_STEP_SECONDS:
            raise CoverError(
                f"a window of {self.window_seconds:g} s has {self.num_frames} frames less than a millisecond apart; "
                f"give at least {self.num_frames * _LEAST_STEP_SECONDS:g} s"
            )

    @property
    def step_seconds(self) -> float:
        """From one frame to the next."""
        return self.window_seconds / self.num_frames

    @property
    def stride(self) -> int:
        """In frames."""
        return max(round(self.stride_seconds / self.step_seconds), 1)

    def cut(self, frame: npt.NDArray[np.uint8]) -> Tensor:
        """uint8 [Y,X,3] → the centre, [C,Y,X]."""
        (box,) = evaluation_boxes(frame.shape[1], frame.shape[0], num_crops=1)
        return crop(frame[None], box, self.crop_px)[0]


class Window(NamedTuple):
    """A clip of consecutive frames. frames: uint8 [T,C,Y,X], of which the first is number `start`."""

    start: int
    frames: Tensor


def sliding_windows(frames: Iterable[Tensor], num_frames: int, stride: int) -> Iterator[Window]:
    """Windows of `num_frames` frames [C,Y,X], one every `stride` of them, and one that ends with the last.

    Fewer frames are one window, in which the last is repeated.
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
