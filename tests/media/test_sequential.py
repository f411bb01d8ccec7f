from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cover.errors import DecodeError
from cover.media.sampling import Sampling
from cover.media.sequential import FrameStream
from cover.media.video import decode_video

WriteVideo = Callable[..., Path]
NumbersOf = Callable[[Any], list[int]]


@pytest.mark.parametrize(
    ("name", "made_with"),
    [
        ("a.mp4", {}),
        ("a.mp4", {"rotation": 90, "width_px": 96}),
        ("a.mp4", {"times_ms": [33 * index + index % 7 for index in range(50)]}),
        ("a.mkv", {}),
        ("a.ts", {}),
        ("a.avi", {"codec": "mpeg4", "codec_options": {"bf": "2"}}),
    ],
)
def test_one_pass_gives_the_frames_that_are_shown(
    tmp_path: Path, write_video: WriteVideo, name: str, made_with: dict[str, Any]
) -> None:
    video = write_video(tmp_path / name, num_frames=50, **made_with)
    for step_seconds in (0.02, 0.15):
        stream = FrameStream(video, step_seconds=step_seconds, short_side_px=32)
        frames = np.stack(list(stream))
        sampling = Sampling(len(frames), 0.0, len(frames) * step_seconds)
        assert np.array_equal(frames, decode_video(video, sampling, short_side_px=32))
        assert stream.duration_seconds is not None
        assert abs(len(frames) * step_seconds - stream.duration_seconds) <= step_seconds / 2 + 1e-6


def test_the_end_is_where_the_last_frame_ends(tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf) -> None:
    stream = FrameStream(write_video(tmp_path / "a.mp4", num_frames=55), step_seconds=0.4)
    assert stream.duration_seconds == pytest.approx(2.2)
    assert numbers_of(np.stack(list(stream))) == [5, 15, 25, 35, 45]
    assert stream.duration_seconds == pytest.approx(2.2)


def test_a_video_shorter_than_a_step_has_a_frame(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf
) -> None:
    stream = FrameStream(write_video(tmp_path / "a.mp4", num_frames=3), step_seconds=9.0)
    assert numbers_of(np.stack(list(stream))) == [2]


def test_what_gives_no_frame_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    for path in (broken, tmp_path / "absent.mp4"):
        with pytest.raises(DecodeError, match=path.name):
            list(FrameStream(path, step_seconds=1.0))
