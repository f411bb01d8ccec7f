from __future__ import annotations

import numpy as np
import pytest

from cover.media.sampling import frame_times_seconds, random_frame_times_seconds


def test_one_clip_takes_the_middle_of_each_part() -> None:
    assert frame_times_seconds(2.0, 10.0, 4) == [3.0, 5.0, 7.0, 9.0]
    assert frame_times_seconds(0.0, 3.0, 1) == [1.5]


def test_several_clips_interleave_evenly() -> None:
    times = [frame_times_seconds(0.0, 12.0, 4, clip=clip, num_clips=3) for clip in range(3)]
    assert sorted(np.ravel(times)) == pytest.approx(np.arange(12) + 0.5)
    assert times[0] == pytest.approx([0.5, 3.5, 6.5, 9.5])


def test_random_times_stay_in_their_parts_and_cover_them() -> None:
    rng = np.random.default_rng(0)
    times = np.array([random_frame_times_seconds(1.0, 9.0, 8, rng) for _ in range(200)])
    parts = times - 1.0 - np.arange(8)
    assert parts.min() >= 0 and parts.max() < 1
    assert parts.mean() == pytest.approx(0.5, abs=0.02) and parts.std() == pytest.approx(12**-0.5, abs=0.02)
