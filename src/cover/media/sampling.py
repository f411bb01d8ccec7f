"""Which moments of a clip are looked at: arithmetic alone, nothing is decoded here.

Four frames of a clip of 8 seconds, one clip and then the first and the second of two:

    0       2       4       6       8 s
    |---x---|---x---|---x---|---x---|        clip 0 of 1: the middle of each segment
    |-x-----|-x-----|-x-----|-x-----|        clip 0 of 2
    |-----x-|-----x-|-----x-|-----x-|        clip 1 of 2
"""

from __future__ import annotations

import numpy as np


def frame_times_seconds(
    start_seconds: float, end_seconds: float, num_frames: int, *, clip: int = 0, num_clips: int = 1
) -> list[float]:
    """Times at fraction (clip + 1/2) / num_clips of each of `num_frames` equal segments of [start, end)."""
    segment_seconds = (end_seconds - start_seconds) / num_frames
    fraction = (clip + 0.5) / num_clips
    return [start_seconds + (segment + fraction) * segment_seconds for segment in range(num_frames)]


def random_frame_times_seconds(
    start_seconds: float, end_seconds: float, num_frames: int, rng: np.random.Generator
) -> list[float]:
    """A random time inside each of `num_frames` equal segments of [start, end)."""
    segment_seconds = (end_seconds - start_seconds) / num_frames
    return [start_seconds + (segment + rng.random()) * segment_seconds for segment in range(num_frames)]
