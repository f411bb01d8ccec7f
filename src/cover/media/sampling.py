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
class Sampling:
    """Which frames of a video make up a clip.

    Attributes:
        num_frames: T, spread evenly over the video or its segment.
        start_seconds: Where the segment begins; None is the beginning of the video.
        end_seconds: Where the segment ends; None is the end of the video.
        clip: Which of several interleaved clips.
        num_clips: How many interleaved clips there are.
        rng: Draw a random time within each of the T parts instead.
    """

    num_frames: int
    start_seconds: float | None = None
    end_seconds: float | None = None
    clip: int = 0
    num_clips: int = 1
    rng: np.random.Generator | None = None

    def times_seconds(self, duration_seconds: float) -> list[float]:
        """Return ascending times. Random times are drawn again in every call.

        Args:
            duration_seconds: The length of the video; it may be infinite, that is unknown, if `end_seconds` is given.

        Raises:
            DecodeError: As in `check`.
        """
        self.check(duration_seconds)
        start = self.start_seconds or 0.0
        end = duration_seconds if self.end_seconds is None else self.end_seconds
        if self.rng is not None:
            return random_frame_times_seconds(start, end, self.num_frames, self.rng)
        return frame_times_seconds(start, end, self.num_frames, clip=self.clip, num_clips=self.num_clips)

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
