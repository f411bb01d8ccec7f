from __future__ import annotations

import pytest
import torch

from cover.errors import CoverError
from cover.inference.windows import WindowFormat, fuse_windows, sliding_windows


def windows_of(num_frames_in_all: int, num_frames: int, stride: int) -> list[tuple[int, list[int]]]:
    frames = [torch.full((3, 1, 1), number, dtype=torch.uint8) for number in range(num_frames_in_all)]
    return [
        (window.start, window.frames[:, 0, 0, 0].tolist()) for window in sliding_windows(frames, num_frames, stride)
    ]


def test_windows_slide_by_their_stride_and_end_with_the_video() -> None:
    assert windows_of(6, 4, 2) == [(0, [0, 1, 2, 3]), (2, [2, 3, 4, 5])]
    assert windows_of(7, 4, 2) == [(0, [0, 1, 2, 3]), (2, [2, 3, 4, 5]), (3, [3, 4, 5, 6])]
    assert windows_of(5, 4, 4) == [(0, [0, 1, 2, 3]), (1, [1, 2, 3, 4])]


def test_a_short_video_is_one_window_that_repeats_its_last_frame() -> None:
    assert windows_of(2, 4, 1) == [(0, [0, 1, 1, 1])]
    assert windows_of(0, 4, 1) == []


def test_a_moment_is_the_mean_of_the_windows_that_contain_it() -> None:
    scored = [(start, {"head": torch.tensor([float(score)])}) for start, score in ((0, 1), (2, 3), (3, 8))]
    joined = [(moment.start, moment.end, moment.scores["head"].item()) for moment in fuse_windows(scored, 4)]
    assert joined == [(0, 2, 1.0), (2, 3, 2.0), (3, 4, 4.0), (4, 6, 5.5), (6, 7, 8.0)]
    assert list(fuse_windows([], 4)) == []


def test_a_stride_is_a_number_of_frames_and_leaves_no_gaps() -> None:
    window = WindowFormat(num_frames=8, crop_px=32, window_seconds=4.0, stride_seconds=0.8)
    assert (window.step_seconds, window.stride) == (0.5, 2)
    assert WindowFormat(8, 32, 4.0, 0.1).stride == 1
    for window_seconds, stride_seconds in ((4.0, 5.0), (0.0, 0.0), (4.0, 0.0), (float("nan"), 1.0)):
        with pytest.raises(
            CoverError, match=f"a window of {window_seconds:g} s cannot move by {stride_seconds:g} s; choose"
        ):
            WindowFormat(8, 32, window_seconds, stride_seconds)
    with pytest.raises(CoverError, match="a window of 1e-09 s has 8 frames less than a millisecond apart; choose at"):
        WindowFormat(8, 32, 1e-9, 1e-9)
