"""Choose the times of the frames of a clip. Nothing is decoded here.

Four frames of a clip of 8 seconds, for one clip, and for the first and second of two clips:

    0       2       4       6       8 s
    |---x---|---x---|---x---|---x---|        clip 0 of 1: the middle of each segment
    |-x-----|-x-----|-x-----|-x-----|        clip 0 of 2
    |-----x-|-----x-|-----x-|-----x-|        clip 1 of 2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cover.errors import DecodeError


@dataclass(frozen=True)
class Window:
    """The length of the part of a video that a clip shows (dense sampling). One of the two is given.

    Attributes:
        seconds: In seconds.
        stride_frames: From one frame of the clip to the next, in frames of the video at its average rate.
    """

    seconds: float | None = None
    stride_frames: int | None = None

    def __str__(self) -> str:
        """As a recipe says it."""
        return f"stride_frames = {self.stride_frames}" if self.seconds is None else f"window_seconds = {self.seconds:g}"

    def length_seconds(self, num_frames: int, fps: float | None) -> float:
        """Return the length in seconds.

        Args:
            num_frames: T of the clip.
            fps: The frame rate of the video; None is unknown.

        Raises:
            DecodeError: It is in frames, and the frame rate is unknown.
        """
        if self.seconds is not None:
            return self.seconds
        if not fps or self.stride_frames is None:
            raise DecodeError("its frame rate is unknown, and stride_frames needs it; use window_seconds")
        return num_frames * self.stride_frames / fps


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video make up a clip.

    Attributes:
        num_frames: T, spread evenly over the video or its segment.
        start_seconds: Where the segment begins; None is the beginning of the video.
        end_seconds: Where the segment ends; None is the end of the video.
        clip: Which of several interleaved clips.
        num_clips: How many interleaved clips there are.
        rng: Draw a random time within each of the T parts instead.
        window: Take all T parts from a window of this length. The window of a shorter video begins with it and repeats
            the last frame, as in `cover timeline`.
        position: Where the window is: 0 is at the beginning of the video or segment, 1 at its end.
    """

    num_frames: int
    start_seconds: float | None = None
    end_seconds: float | None = None
    clip: int = 0
    num_clips: int = 1
    rng: np.random.Generator | None = None
    window: Window | None = None
    position: float = 0.5

    def times_seconds(self, duration_seconds: float, fps: float | None = None) -> list[float]:
        """Return ascending times. Random times are drawn again in every call.

        Args:
            duration_seconds: The length of the video; it may be infinite, that is unknown, if `end_seconds` is given.
            fps: Its frame rate; None is unknown.

        Raises:
            DecodeError: As in `check` and in Window.
        """
        self.check(duration_seconds)
        start = self.start_seconds or 0.0
        end = duration_seconds if self.end_seconds is None else self.end_seconds
        if self.window is not None:
            length = self.window.length_seconds(self.num_frames, fps)
            first = start + self.position * max(end - start - length, 0.0)
            times = self._times_seconds(first, first + length)
            last = max((time for time in times if time < end), default=start)
            return [min(time, last) for time in times]
        return self._times_seconds(start, end, self.clip, self.num_clips)

    def _times_seconds(self, start: float, end: float, clip: int = 0, num_clips: int = 1) -> list[float]:
        if self.rng is not None:
            return random_frame_times_seconds(start, end, self.num_frames, self.rng)
        return frame_times_seconds(start, end, self.num_frames, clip=clip, num_clips=num_clips)

    def check(self, duration_seconds: float) -> None:
        """Check that the segment lies in the video.

        Raises:
            DecodeError: The segment begins after its own end or that of the video.
        """
        start = self.start_seconds or 0.0
        if 0 < start >= duration_seconds:
            raise DecodeError(f"its segment begins at {start:g} s, after its end")
        if self.end_seconds is not None and not start <= self.end_seconds:
            raise DecodeError(f"its segment begins at {start:g} s and ends at {self.end_seconds:g} s")


def frame_times_seconds(
    start_seconds: float, end_seconds: float, num_frames: int, *, clip: int = 0, num_clips: int = 1
) -> list[float]:
    """Return the times at fraction (clip + 1/2) / num_clips of each of `num_frames` equal parts of [start, end).

    Args:
        start_seconds: The start of the segment.
        end_seconds: The end of the segment.
        num_frames: The number of times.
        clip: Which of several interleaved clips.
        num_clips: How many interleaved clips there are.
    """
    segment_seconds = (end_seconds - start_seconds) / num_frames
    fraction = (clip + 0.5) / num_clips
    return [start_seconds + (segment + fraction) * segment_seconds for segment in range(num_frames)]


def random_frame_times_seconds(
    start_seconds: float, end_seconds: float, num_frames: int, rng: np.random.Generator
) -> list[float]:
    """Return a random time within each of `num_frames` equal parts of [start, end)."""
    segment_seconds = (end_seconds - start_seconds) / num_frames
    return [start_seconds + (segment + rng.random()) * segment_seconds for segment in range(num_frames)]
