"""Videos whose timestamps start again: every frame is read, or the file is refused by name."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cover.curation.packed_video import shorten, write_short_clip
from cover.datasets.manifest import ManifestRow
from cover.errors import DecodeError
from cover.media.sampling import Sampling
from cover.media.sequential import FrameStream
from cover.media.video import decode_video, probe_video

WriteVideo = Callable[..., Path]
NumbersOf = Callable[[Any], list[int]]

NO_B_FRAMES = {"codec_options": {"bf": "0"}}
JOINED_BY_FFMPEG: list[tuple[str, dict[str, Any]]] = [
    ("ts", {}),
    ("ts", NO_B_FRAMES),
    ("mpg", {"codec": "mpeg2video", "codec_options": {"bf": "2"}}),
    ("webm", {"codec": "libvpx"}),
    ("webm", {"codec": "libvpx-vp9"}),
    ("mkv", {}),
    ("avi", {"codec": "mpeg4"}),
    ("ogv", {"codec": "libvpx"}),
]
FRAGMENTS: dict[str, Any] = {"container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}}


def join(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def write_part(write_video: WriteVideo, path: Path, first_number: int = 0, **made_with: Any) -> Path:
    """Four seconds at 10 frames a second."""
    return write_video(path, **{"num_frames": 40, "fps": 10, "first_number": first_number} | made_with)


def streamed(path: Path, step_seconds: float) -> Any:
    return np.stack(list(FrameStream(path, step_seconds=step_seconds)))


def assert_shows(video: Path, wanted: list[int], seconds: float, num_frames: int, numbers_of: NumbersOf) -> None:
    """By decoding, in the timeline, in a packed copy, and in a check."""
    assert numbers_of(decode_video(video, Sampling(len(wanted)))) == wanted
    assert numbers_of(streamed(video, seconds / len(wanted))) == wanted
    info = probe_video(video)
    assert (info.num_frames, info.duration_seconds) == (num_frames, pytest.approx(seconds))
    copy = video.with_name("copy.mp4")
    write_short_clip(copy, shorten(ManifestRow("a", video.name, 0, root=video.parent), 256, 320))
    assert numbers_of(decode_video(copy, Sampling(len(wanted)))) == wanted


@pytest.mark.parametrize(("suffix", "made_with"), JOINED_BY_FFMPEG)
def test_joined_files_are_one_video(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf, suffix: str, made_with: dict[str, Any]
) -> None:
    first, second = (write_part(write_video, tmp_path / f"{n}.{suffix}", n, **made_with) for n in (0, 100))
    video = join(tmp_path / f"joined.{suffix}", first, second)
    assert_shows(video, [5, 15, 25, 35, 105, 115, 125, 135], 8.0, 80, numbers_of)
    segment = Sampling(4, start_seconds=4.4, end_seconds=4.8)
    assert numbers_of(decode_video(video, segment)) == [104, 105, 106, 107]


@pytest.mark.parametrize(("offset", "order"), [("3600", (0, 1)), ("3600", (1, 0)), ("95441", (1, 0))])
def test_clocks_of_broadcasts_may_leap_and_run_over(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf, offset: str, order: tuple[int, int]
) -> None:
    """They have 33 bits, at 90,000 a second: 95,443.7 s."""
    parts = [
        write_part(write_video, tmp_path / "0.ts", 0),
        write_part(write_video, tmp_path / "1.ts", 100, container_options={"output_ts_offset": offset}),
    ]
    video = join(tmp_path / "joined.ts", *(parts[index] for index in order))
    shown = {0: [5, 15, 25, 35], 1: [105, 115, 125, 135]}
    assert_shows(video, [*shown[order[0]], *shown[order[1]]], 8.0, 80, numbers_of)
    assert_shows(parts[1], [105, 115, 125, 135], 4.0, 40, numbers_of)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_elsewhere_a_frame_is_shown_for_as_long_as_the_file_says(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf, suffix: str
) -> None:
    times_ms = [0, 100, 60_000, 60_100]
    slides = write_video(tmp_path / f"a.{suffix}", num_frames=4, times_ms=times_ms)
    assert numbers_of(decode_video(slides, Sampling(5, end_seconds=100.0))) == [1, 1, 1, 3, 3]
    assert numbers_of(streamed(slides, 20.0))[:3] == [1, 1, 1]


def test_a_part_that_begins_between_keyframes(tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf) -> None:
    first, second = (write_part(write_video, tmp_path / f"{n}.ts", n) for n in (0, 100))
    late = tmp_path / "late.ts"
    late.write_bytes(second.read_bytes()[188 * 60 :])  # packets of MPEG-TS have 188 bytes
    numbers = numbers_of(streamed(join(tmp_path / "joined.ts", first, late), 0.1))
    assert len(numbers) == 60
    assert numbers[:36] == list(range(36)) and numbers[-16:] == list(range(124, 140))


@pytest.mark.parametrize(
    ("suffix", "made_with", "reason"),
    [
        ("mp4", {}, "it consists of several joined files, and only the first"),
        ("mp4", FRAGMENTS, "it consists of several joined files, and only the first"),
        ("wmv", {"codec": "wmv2"}, "it consists of several joined files, and only the first"),
        ("flv", {}, r"only [\d,]+ of its [\d,]+ bytes can be read as one video"),
    ],
)
def test_files_whose_second_part_cannot_be_seen_are_refused(
    tmp_path: Path, write_video: WriteVideo, suffix: str, made_with: dict[str, Any], reason: str
) -> None:
    first, second = (write_part(write_video, tmp_path / f"{n}.{suffix}", n, **made_with) for n in (0, 100))
    video = join(tmp_path / f"joined.{suffix}", first, second)
    for read in (lambda: decode_video(video, Sampling(8)), lambda: probe_video(video), lambda: streamed(video, 1.0)):
        with pytest.raises(DecodeError, match=reason):
            read()


DIFFERENT: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("webm", {"codec": "libvpx"}, {"codec": "libvpx-vp9"}, "vp8, then vp9"),
    ("mkv", {}, {"width_px": 96}, "h264 64×64, then h264 96×64"),
    ("mkv", {}, {"codec": "mpeg4"}, "h264 64×64, then mpeg4 64×64"),
    ("avi", {"codec": "mpeg4"}, {}, "mpeg4 64×64, then h264 64×64"),
    ("avi", {"codec": "mpeg4"}, {"codec": "mpeg4", "width_px": 96}, "mpeg4 64×64, then mpeg4 96×64"),
    ("ts", {"codec": "mpeg2video", "fps": 25}, {}, "mpeg2video, then h264"),
    ("ts", {}, {"codec": "mpeg2video", "fps": 25}, "h264, then mpeg2video"),
]


@pytest.mark.parametrize(("suffix", "first", "second", "formats"), DIFFERENT)
def test_parts_that_need_another_decoder_are_refused_by_name(
    tmp_path: Path, write_video: WriteVideo, suffix: str, first: dict[str, Any], second: dict[str, Any], formats: str
) -> None:
    parts = [
        write_part(write_video, tmp_path / f"{n}.{suffix}", n, **made_with)
        for n, made_with in ((0, first), (100, second))
    ]
    video = join(tmp_path / f"joined.{suffix}", *parts)
    for read in (lambda: decode_video(video, Sampling(8)), lambda: probe_video(video), lambda: streamed(video, 1.0)):
        with pytest.raises(DecodeError, match=re.escape(f"different codecs, sizes or encoder settings ({formats})")):
            read()


@pytest.mark.parametrize(
    ("suffix", "made_with"), [("ts", {}), ("webm", {"codec": "libvpx"}), ("webm", {"codec": "libvpx-vp9"})]
)
def test_sizes_may_change_where_keyframes_tell_them(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf, suffix: str, made_with: dict[str, Any]
) -> None:
    parts = [
        write_part(write_video, tmp_path / f"{n}.{suffix}", n, **made_with, width_px=side, height_px=side)
        for n, side in ((0, 64), (100, 96))
    ]
    video = join(tmp_path / f"joined.{suffix}", *parts)
    assert numbers_of(decode_video(video, Sampling(8))) == [5, 15, 25, 35, 105, 115, 125, 135]


def test_a_long_part_without_a_frame_is_named(
    tmp_path: Path, write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The headers do not matter: the decoder's own errors are ignored, like those of damaged packets."""
    monkeypatch.setattr("cover.media.continuity.check_alike", lambda *arguments: None)
    first = write_part(write_video, tmp_path / "0.mkv")
    second = write_part(write_video, tmp_path / "1.mkv", num_frames=300, codec="mpeg4")
    video = join(tmp_path / "joined.mkv", first, second)
    for read in (lambda: decode_video(video, Sampling(8)), lambda: streamed(video, 1.0)):
        with pytest.raises(DecodeError, match="one of which cannot be decoded like the others"):
            read()


def write_theora(path: Path, grey: int, *, quality: int = 8, size: str = "64x64", num_frames: int = 10) -> Path:
    """Frame i has the grey `grey` + 10 i. PyAV's FFmpeg writes no Theora."""
    source = f"color=black:s={size}:r=10:d={num_frames / 10},format=gray,geq=lum={grey}+10*N,format=yuv420p"
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        source,
        "-c:v",
        "libtheora",
        "-q:v",
        str(quality),
        str(path),
    ]
    subprocess.run(command, check=True)
    return path


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg with Theora")
def test_headers_of_a_second_ogg_file_are_no_frames(tmp_path: Path, write_video: WriteVideo) -> None:
    first, second = write_theora(tmp_path / "0.ogv", 30), write_theora(tmp_path / "1.ogv", 140)
    video = join(tmp_path / "joined.ogv", first, second)
    info = probe_video(video)
    assert (info.num_frames, info.duration_seconds) == (20, pytest.approx(2.0))
    shown = streamed(video, 0.1).mean((1, 2, 3))
    assert np.abs(np.diff(shown[:10]) - 10).max() < 3 and np.abs(np.diff(shown[10:]) - 10).max() < 3
    other = write_theora(tmp_path / "2.ogv", 140, size="96x64")
    with pytest.raises(DecodeError, match="joined files with different sizes or encoder settings"):
        probe_video(join(tmp_path / "other.ogv", first, other))
    vp8 = write_part(write_video, tmp_path / "3.ogv", codec="libvpx")
    with pytest.raises(DecodeError, match="joined files with different codecs"):
        streamed(join(tmp_path / "vp8.ogv", first, vp8), 0.1)


def test_a_broadcast_that_goes_on_under_other_numbers(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf
) -> None:
    options = {"mpegts_start_pid": "300"}
    first = write_part(write_video, tmp_path / "0.ts")
    second = write_part(write_video, tmp_path / "1.ts", 100, container_options=options)
    video = join(tmp_path / "joined.ts", first, second)
    assert numbers_of(decode_video(video, Sampling(8))) == [5, 15, 25, 35, 105, 115, 125, 135]
    other = write_part(
        write_video, tmp_path / "2.ts", 100, container_options=options | {"mpegts_pmt_start_pid": "5000"}
    )
    with pytest.raises(
        DecodeError, match=r"only [\d,]+ of its [\d,]+ bytes can be read as one video; split off the rest"
    ):
        decode_video(join(tmp_path / "another.ts", first, other), Sampling(8))


def test_zeros_behind_a_video_are_no_second_one(tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf) -> None:
    video = write_part(write_video, tmp_path / "a.ts")
    video.write_bytes(video.read_bytes() + bytes(100_000))
    assert numbers_of(decode_video(video, Sampling(4))) == [5, 15, 25, 35]


def test_matroska_of_three_files_is_refused(tmp_path: Path, write_video: WriteVideo) -> None:
    parts = [write_part(write_video, tmp_path / f"{n}.mkv", n) for n in (0, 100, 200)]
    with pytest.raises(DecodeError, match=r"only [\d,]+ of its [\d,]+ bytes can be read as one video"):
        decode_video(join(tmp_path / "joined.mkv", *parts), Sampling(8))


def test_fragments_that_repeat_the_header_are_one_video(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf
) -> None:
    video = write_part(write_video, tmp_path / "a.mp4", **FRAGMENTS)
    content = video.read_bytes()
    moov, moof = content.index(b"moov") - 4, content.index(b"moof") - 4
    second = content.index(b"moof", moof + 8) - 4
    video.write_bytes(content[:second] + content[moov:moof] + content[second:])
    assert numbers_of(decode_video(video, Sampling(8))) == [2, 7, 12, 17, 22, 27, 32, 37]
