"""Files with wrong, incomplete or malicious headers still give the frames that a player shows."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from cover.media.sampling import Sampling
from cover.media.video import decode_video, probe_video

WriteVideo = Callable[..., Path]
NumbersOf = Callable[[Any], list[int]]
TICKS = 512
"""Of a frame, in the MP4 files that FFmpeg writes at 25 frames a second."""


def patch(path: Path, box: bytes, offset: int, form: str, *values: int) -> None:
    """Overwrite values at `offset` bytes after the name of a box or chunk."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, content.index(box) + len(box) + offset, *values)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("first", "num_shown"), [(20, 40), (0, 40), (15, 20), (12, 48), (59, 1)], ids=lambda value: str(value)
)
def test_an_edit_list_says_which_frames_are_shown(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf, first: int, num_shown: int
) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=60)
    content = video.read_bytes()
    (begin,) = struct.unpack_from(">i", content, content.index(b"elst") + 16)
    patch(video, b"elst", 8, ">Ii", 40 * num_shown, begin + TICKS * first)
    shown = list(range(first, first + num_shown))
    assert numbers_of(decode_video(video, Sampling(num_shown))) == shown
    info = probe_video(video)
    assert (info.num_frames, info.duration_seconds) == (num_shown, num_shown / 25)
    for index in range(0, num_shown, 7):
        alone = Sampling(1, start_seconds=index / 25, end_seconds=(index + 1) / 25)
        assert numbers_of(decode_video(video, alone)) == [shown[index]]


@pytest.mark.parametrize("duration", [0, 1, 30 * TICKS, 10**6 * TICKS, 2**32 - 1])
def test_an_mp4_header_with_a_wrong_duration(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf, duration: int
) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=60)
    patch(video, b"mdhd", 16, ">I", duration)
    assert numbers_of(decode_video(video, Sampling(60))) == list(range(60))
    assert probe_video(video).duration_seconds == 2.4


@pytest.mark.parametrize("count", [0, 1, 30, 600, 2**31 - 1])
def test_an_avi_header_with_a_wrong_number_of_frames(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf, count: int
) -> None:
    video = write_video(tmp_path / "a.avi", num_frames=60, codec="mpeg4", codec_options={"bf": "2"})
    patch(video, b"avih", 20, "<I", count)
    patch(video, b"strh", 36, "<I", count)
    assert numbers_of(decode_video(video, Sampling(60))) == list(range(60))
    info = probe_video(video)
    assert (info.num_frames, info.duration_seconds) == (60, 2.4)


def test_an_avi_file_without_an_index(tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf) -> None:
    video = write_video(tmp_path / "a.avi", num_frames=60, codec="mpeg4")
    content = video.read_bytes()
    video.write_bytes(content[: content.index(b"idx1")])
    assert numbers_of(decode_video(video, Sampling(60))) == list(range(60))


def test_frames_that_an_avi_file_left_out_leave_the_one_before_on_show(
    tmp_path: Path, draw_number: Callable[..., Any], numbers_of: NumbersOf
) -> None:
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 64
        for number, pts in enumerate((0, 1, 2, 5, 6, 10, 11)):
            frame = av.VideoFrame.from_ndarray(draw_number(number, 64, 64))
            frame.pts, frame.time_base = pts, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames = decode_video(tmp_path / "a.avi", Sampling(12))
    assert numbers_of(frames) == [0, 1, 2, 2, 2, 3, 4, 4, 4, 4, 5, 6]


class Pipe:
    """A file that cannot seek back to write a duration or an index."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, data: bytes) -> int:
        self.content += data
        return len(data)


@pytest.mark.parametrize(
    ("form", "codec", "options"),
    [
        ("matroska", "libx264", {}),
        ("webm", "libvpx-vp9", {}),
        ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("mp4", "libx264", {"movflags": "frag_every_frame+empty_moov+default_base_moof"}),
        ("flv", "libx264", {}),
    ],
)
def test_streams_recorded_live_have_neither_duration_nor_index(
    tmp_path: Path,
    draw_number: Callable[..., Any],
    numbers_of: NumbersOf,
    form: str,
    codec: str,
    options: dict[str, str],
) -> None:
    pipe = Pipe()
    with av.open(pipe, "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 64
        stream.gop_size = 12
        for number in range(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_number(number, 64, 64))))
        container.mux(stream.encode(None))
    video = tmp_path / f"a.{form}"
    video.write_bytes(pipe.content)
    assert numbers_of(decode_video(video, Sampling(60))) == list(range(60))
    assert numbers_of(decode_video(video, Sampling(4, start_seconds=1.0, end_seconds=2.0))) == [28, 34, 40, 46]
    info = probe_video(video)
    assert (info.num_frames, info.duration_seconds) == (60, 2.4)


def test_a_list_that_calls_every_frame_a_keyframe(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf
) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=60, codec="mpeg4", keyframe_interval=20)
    video.write_bytes(video.read_bytes().replace(b"stss", b"free"))
    assert numbers_of(decode_video(video, Sampling(5))) == [6, 18, 30, 42, 54]


def test_matroska_cut_short_lasts_as_long_as_what_is_there(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf
) -> None:
    video = write_video(tmp_path / "a.mkv", num_frames=100, keyframe_interval=10)
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 2 // 3])
    info = probe_video(video)
    assert info.num_frames is not None and 40 < info.num_frames < 80
    last = numbers_of(decode_video(video, Sampling(100)))[-1]
    assert last + 1 == round(25 * (info.duration_seconds or 0)) and 0 <= last - info.num_frames < 4
    assert numbers_of(decode_video(video, Sampling(40, end_seconds=1.6))) == list(range(40))
