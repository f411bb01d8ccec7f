from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cover.errors import DecodeError
from cover.media.sampling import Sampling
from cover.media.sequential import FrameStream
from cover.media.video import decode_video, probe_video

WriteVideo = Callable[..., Path]
NumbersOf = Callable[[Any], list[int]]


HEVC = {"codec": "libx265", "codec_options": {"x265-params": "log-level=none:pools=1:bframes=4"}}


def expected(num_video_frames: int, num_frames: int) -> list[int]:
    """The numbers of the frames in the middle of each part of a video with a constant frame rate."""
    return [(2 * part + 1) * num_video_frames // (2 * num_frames) for part in range(num_frames)]


@pytest.mark.parametrize(
    ("name", "made_with"),
    [
        ("a.mp4", {}),
        ("a.mp4", {"keyframe_interval": 250}),
        ("a.mp4", {"keyframe_interval": 1}),
        ("a.mp4", {"codec": "mpeg4", "codec_options": {"bf": "2"}}),
        ("a.mp4", {"codec_options": {"x264-params": "open-gop=1:bframes=8:b-pyramid=strict:direct=temporal"}}),
        ("a.mp4", {"codec_options": {"x264-params": "intra-refresh=1:bframes=0"}}),
        ("a.mp4", {"codec_options": {"x264-params": "interlaced=1:bframes=3"}}),
        ("a.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("a.mp4", {"pixel_format": "yuv420p10le"}),
        ("a.mp4", {"pixel_format": "yuv444p", "width_px": 71, "height_px": 49}),
        ("a.mov", {"codec": "prores_ks", "pixel_format": "yuv422p10le"}),
        ("a.mp4", HEVC),
        ("a.mkv", HEVC | {"pixel_format": "yuv420p10le"}),
        ("a.mp4", {"codec": "libsvtav1", "codec_options": {"preset": "12", "svtav1-params": "lp=1"}}),
        ("a.mkv", {}),
        ("a.mkv", {"codec": "mpeg4", "codec_options": {"bf": "2"}}),
        ("a.mkv", {"codec": "ffv1"}),
        ("a.webm", {"codec": "libvpx", "codec_options": {"auto-alt-ref": "1", "lag-in-frames": "16"}}),
        ("a.webm", {"codec": "libvpx-vp9", "width_px": 71, "height_px": 49}),
        ("a.mp4", {"codec": "libvpx-vp9", "codec_options": {"auto-alt-ref": "1", "lag-in-frames": "16"}}),
        ("a.avi", {"codec": "mpeg4", "codec_options": {"bf": "2"}}),
        ("a.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
        ("a.avi", {}),
        ("a.flv", {}),
        ("a.wmv", {"codec": "wmv2"}),
        ("a.3gp", {"codec": "h263", "width_px": 128, "height_px": 96}),
        ("a.ts", {}),
        ("a.mpg", {"codec": "mpeg2video"}),
    ],
)
def test_every_frame_is_the_one_shown(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf, name: str, made_with: dict[str, Any]
) -> None:
    video = write_video(tmp_path / name, num_frames=60, **made_with)
    for num_frames in (1, 3, 8, 60):
        frames = decode_video(video, Sampling(num_frames))
        assert frames.dtype == np.uint8 and frames.shape[3] == 3
        assert numbers_of(frames) == expected(60, num_frames)


def test_a_segment_counts_from_the_beginning_of_the_video(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf
) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=100)
    frames = decode_video(video, Sampling(5, start_seconds=2.0, end_seconds=2.4))
    assert numbers_of(frames) == [51, 53, 55, 57, 59]
    assert numbers_of(decode_video(video, Sampling(2, start_seconds=3.0))) == [81, 93]
    assert numbers_of(decode_video(video, Sampling(2, end_seconds=1.0))) == [6, 18]


def test_frames_are_found_by_time_at_a_variable_frame_rate(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf
) -> None:
    times_ms = [0, 100, 110, 120, 1000, 1050, 1900]
    for name in ("a.mp4", "a.mkv"):
        video = write_video(tmp_path / name, num_frames=7, times_ms=times_ms)
        frames = decode_video(video, Sampling(20, end_seconds=2.0))
        assert numbers_of(frames) == [sum(shown <= 50 + 100 * i for shown in times_ms) - 1 for i in range(20)]


def test_several_clips_and_random_times(tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=48)
    clips = [numbers_of(decode_video(video, Sampling(4, clip=clip, num_clips=3))) for clip in range(3)]
    assert clips == [[2, 14, 26, 38], [6, 18, 30, 42], [10, 22, 34, 46]]
    drawn = [numbers_of(decode_video(video, Sampling(4, rng=np.random.default_rng(seed)))) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(number // 12 == part for numbers in drawn for part, number in enumerate(numbers))


def test_short_videos_repeat_frames(tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf) -> None:
    three = write_video(tmp_path / "three.mp4", num_frames=3)
    assert numbers_of(decode_video(three, Sampling(6))) == [0, 0, 1, 1, 2, 2]
    one = write_video(tmp_path / "one.mp4", num_frames=1)
    assert numbers_of(decode_video(one, Sampling(4))) == [0, 0, 0, 0]
    assert numbers_of(decode_video(three, Sampling(2, start_seconds=0.05, end_seconds=9.0))) == [2, 2]


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_rotation_is_applied(tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf, rotation: int) -> None:
    video = write_video(tmp_path / "a.mp4", width_px=96, height_px=64, rotation=rotation)
    frames = decode_video(video, Sampling(3))
    turned_back = np.rot90(frames, -rotation // 90, axes=(1, 2))
    assert turned_back.shape == (3, 64, 96, 3)
    assert numbers_of(turned_back) == expected(30, 3)
    info = probe_video(video)
    assert (info.height_px, info.width_px) == frames.shape[1:3]
    assert info.rotation == rotation % 360


def test_probe(tmp_path: Path, write_video: WriteVideo) -> None:
    info = probe_video(write_video(tmp_path / "a.mp4", num_frames=50, width_px=80))
    assert (info.num_frames, info.fps, info.duration_seconds, info.width_px, info.height_px) == (50, 25.0, 2.0, 80, 64)
    measured = probe_video(write_video(tmp_path / "a.mkv", num_frames=50))
    assert (measured.num_frames, measured.duration_seconds) == (50, 2.0)


def byte_position(video: Path, frame: int) -> int:
    """Where the packet of a keyframe begins in an MP4 file at 25 frames a second."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        pts = int(frame / 25 / stream.time_base)
        return next(packet.pos or 0 for packet in container.demux(stream) if packet.pts == pts and packet.is_keyframe)


def test_a_file_cut_short_gives_what_is_there(tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf) -> None:
    options = {"movflags": "faststart"}
    video = write_video(tmp_path / "a.mp4", num_frames=100, keyframe_interval=10, container_options=options)
    video.write_bytes(video.read_bytes()[: byte_position(video, 50)])
    assert numbers_of(decode_video(video, Sampling(10))) == [5, 15, 25, 35, 45, 49, 49, 49, 49, 49]


def test_damaged_packets_do_not_end_the_video(tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=100, keyframe_interval=10)
    damage(video, byte_position(video, 30), byte_position(video, 40))
    assert numbers_of(decode_video(video, Sampling(10))) == [5, 15, 25, 29, 45, 55, 65, 75, 85, 95]


def damage(video: Path, start: int, end: int) -> bytes:
    content = bytearray(video.read_bytes())
    content[start:end] = b"\xff" * (end - start)
    video.write_bytes(content)
    return bytes(content)


def unreadable_files(folder: Path, write_video: WriteVideo) -> dict[str, str]:
    """File name → what its DecodeError says."""
    video = write_video(folder / "damaged.mp4", keyframe_interval=30)
    whole = video.read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    damage(video, byte_position(video, 0), whole.index(b"moov") - 4)
    deaf = write_video(folder / "deaf.mp4", **HEVC)  # the decoder does not even open
    damage(deaf, deaf.read_bytes().index(b"hvcC") + 26, deaf.read_bytes().index(b"hvcC") + 60)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("hello\n" * 100)
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost:9/a.ts\n")
    (folder / "folder.mp4").mkdir()
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return dict.fromkeys(("cut.mp4", "empty.mp4", "text.mp4", "playlist.mp4"), "cannot be decoded") | {
        "damaged.mp4": "no frame of it can be decoded",
        "deaf.mp4": "no frame of it can be decoded",
        "sound.mp4": "it has no video stream",
        "folder.mp4": "cannot be decoded",
        "nowhere.mp4": "does not exist",
    }


def test_what_gives_no_frame_is_a_decode_error_of_one_line(tmp_path: Path, write_video: WriteVideo) -> None:
    for name, message in unreadable_files(tmp_path, write_video).items():
        for read in (lambda path: decode_video(path, Sampling(4)), probe_video):
            with pytest.raises(DecodeError, match=message) as caught:
                read(tmp_path / name)
            assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)


def test_a_segment_outside_the_video_is_a_decode_error(tmp_path: Path, write_video: WriteVideo) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=50)
    for start, end in ((2.0, 3.0), (7.0, None), (1.0, 0.5)):
        with pytest.raises(DecodeError, match=r"a.mp4 cannot be decoded \(its segment"):
            decode_video(video, Sampling(4, start_seconds=start, end_seconds=end))


def test_forked_workers_decode_after_the_parent_did(tmp_path: Path, write_video: WriteVideo) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=60)
    frames = decode_video(video, Sampling(8))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = [pool.apply_async(decode_video, (video, Sampling(8))) for _ in range(6)]
        assert all(np.array_equal(result.get(timeout=30), frames) for result in results)


@pytest.mark.parametrize(("suffix", "codec"), [("wmv", "wmv2"), ("flv", "flv")])
def test_the_last_frame_is_shown_where_packets_do_not_say_for_how_long(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf, suffix: str, codec: str
) -> None:
    slides = write_video(tmp_path / f"a.{suffix}", num_frames=2, codec=codec, times_ms=[0, 5000])
    assert numbers_of(decode_video(slides, Sampling(4))) == [0, 0, 1, 1]
    assert numbers_of(list(FrameStream(slides, step_seconds=2.5))) == [0, 0, 1, 1]
    video = write_video(tmp_path / f"b.{suffix}", num_frames=20, fps=10, codec=codec)
    info = probe_video(video)
    assert (info.num_frames, info.duration_seconds, info.fps) == (20, 2.0, 10.0)
    assert numbers_of(decode_video(video, Sampling(20))) == list(range(20))


def test_the_rate_of_raw_dv_is_no_unit_of_time(tmp_path: Path, write_video: WriteVideo) -> None:
    size = {"width_px": 720, "height_px": 576}
    video = write_video(tmp_path / "a.dv", num_frames=5, fps=25, codec="dvvideo", pixel_format="yuv420p", **size)
    assert probe_video(video).fps == 25.0
