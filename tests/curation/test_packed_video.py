"""Compare short copies with the videos they were made from, frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cover.curation.packed_video import shorten, write_short_clip
from cover.datasets.manifest import ManifestRow
from cover.media.decode import decode_sampled
from cover.media.sampling import Sampling
from cover.media.video import decode_video, probe_video

WriteMedia = Callable[..., Path]
NumbersOf = Callable[[Any], list[int]]


def pack(source: Path, *, num_frames: int = 64, short_side_px: int = 320, **columns: Any) -> Path:
    """Make a copy of a video or folder, beside it."""
    copy = source.with_name(f"{source.name}.packed.mp4")
    row = ManifestRow("a", source.name, 0, root=source.parent, **columns)
    write_short_clip(copy, shorten(row, num_frames, short_side_px))
    return copy


@pytest.mark.parametrize(
    ("name", "made_with"),
    [
        ("a.mp4", {"num_frames": 250, "keyframe_interval": 250}),
        ("a.webm", {"num_frames": 150, "fps": 12, "codec": "libvpx-vp9"}),
        ("a.avi", {"num_frames": 200, "fps": 30, "codec": "mpeg4"}),
    ],
)
def test_the_frames_of_training_are_exactly_those_of_the_video(
    tmp_path: Path, write_video: WriteMedia, numbers_of: NumbersOf, name: str, made_with: dict[str, Any]
) -> None:
    video = write_video(tmp_path / name, **made_with)
    segments: list[dict[str, Any]] = [{}, {"start_seconds": 1.0, "end_seconds": 5.5}]
    for segment in segments:
        copy = pack(video, num_frames=48, **segment)
        for num_frames, num_clips in ((1, 1), (3, 1), (8, 1), (24, 1), (4, 3), (8, 3)):
            before = decode_video(video, Sampling(num_frames, **segment, clip=num_clips - 1, num_clips=num_clips))
            after = decode_video(copy, Sampling(num_frames, clip=num_clips - 1, num_clips=num_clips))
            assert numbers_of(after) == numbers_of(before)


def test_at_other_times_a_frame_is_at_most_a_part_too_old(
    tmp_path: Path, write_video: WriteMedia, numbers_of: NumbersOf
) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=250)
    copy = pack(video)
    for num_frames in (5, 64, 100):
        shown, wanted = (np.array(numbers_of(decode_video(file, Sampling(num_frames)))) for file in (copy, video))
        assert set(wanted - shown) <= {0, 1, 2, 3, 4}  # 250 / 64 = 3.9


@pytest.mark.parametrize("num_frames", [1, 2, 50, 63, 64])
def test_a_short_video_keeps_all_frames_with_their_times(
    tmp_path: Path, write_video: WriteMedia, numbers_of: NumbersOf, num_frames: int
) -> None:
    video = write_video(tmp_path / "a.mkv", num_frames=num_frames, fps=12)
    copy = pack(video)
    assert probe_video(copy).num_frames == num_frames
    for wanted in (1, 5, 7, 64, 100):
        assert numbers_of(decode_video(copy, Sampling(wanted))) == numbers_of(decode_video(video, Sampling(wanted)))


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    picture = np.full((32, 32, 4), 255, np.uint8)
    picture[:, :16] = (0, 128, 0, 0)
    Image.fromarray(picture).save(tmp_path / "a.gif")
    assert decode_video(pack(tmp_path / "a.gif"), Sampling(1)).min() > 250


def test_a_variable_frame_rate(tmp_path: Path, write_video: WriteMedia, numbers_of: NumbersOf) -> None:
    times_ms = [0, 100, 200, 900, 1000, 1050, 1900]
    video = write_video(tmp_path / "a.mkv", num_frames=7, times_ms=times_ms)
    copy = pack(video)
    assert numbers_of(decode_video(copy, Sampling(16))) == numbers_of(decode_video(video, Sampling(16)))


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif"])
def test_a_short_animation_keeps_all_frames_with_their_times(
    tmp_path: Path, draw_number: Callable[..., Any], numbers_of: NumbersOf, name: str
) -> None:
    delays_ms = [100, 50, 250, 20, 180, 400]
    first, *others = [Image.fromarray(draw_number(number, 64, 64)) for number in range(6)]
    first.save(tmp_path / name, save_all=True, append_images=others, duration=delays_ms)
    segments: list[dict[str, Any]] = [{}, {"start_seconds": 0.1, "end_seconds": 0.6}]
    for segment in segments:
        copy = pack(tmp_path / name, **segment)
        assert probe_video(copy).num_frames == (4 if segment else 6)
        (before,) = decode_sampled(ManifestRow("a", str(tmp_path / name), 0), [Sampling(20, **segment)])
        assert numbers_of(decode_video(copy, Sampling(20))) == numbers_of(before)


def test_any_player_can_begin_at_any_frame(tmp_path: Path, write_video: WriteMedia, numbers_of: NumbersOf) -> None:
    copy = pack(write_video(tmp_path / "a.mp4", num_frames=250))
    with av.open(str(copy)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.duration and stream.time_base and stream.codec.name == "mpeg4"
        assert abs(float(stream.duration * stream.time_base) - 10) < 1e-3
    assert numbers_of([frame.to_ndarray(format="rgb24") for frame in frames]) == [k * 250 // 64 for k in range(64)]
    assert all(frame.key_frame for frame in frames)
    assert len(set(np.diff([frame.pts or 0 for frame in frames]))) == 1


def test_a_folder_of_frames(tmp_path: Path, write_image: WriteMedia, numbers_of: NumbersOf) -> None:
    for index in range(100):
        write_image(tmp_path / "a" / f"img_{index + 1:05}.png", index)
    assert numbers_of(decode_video(pack(tmp_path / "a"), Sampling(8))) == [6, 18, 31, 43, 56, 68, 81, 93]
    part = pack(tmp_path / "a", fps=10.0, start_seconds=2.0, end_seconds=5.0)
    assert numbers_of(decode_video(part, Sampling(30))) == list(range(20, 50))
    assert probe_video(part).duration_seconds == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("width_px", "height_px", "size"),
    [(96, 64, (96, 64)), (720, 480, (480, 320)), (480, 854, (320, 568)), (71, 51, (70, 50))],
)
def test_sizes_are_even_and_never_larger(
    tmp_path: Path, write_video: WriteMedia, width_px: int, height_px: int, size: tuple[int, int]
) -> None:
    options = {"pixel_format": "yuv444p", "num_frames": 4}
    info = probe_video(pack(write_video(tmp_path / "a.mp4", width_px=width_px, height_px=height_px, **options)))
    assert (info.width_px, info.height_px) == size


def test_rotation_is_kept(tmp_path: Path, write_video: WriteMedia, numbers_of: NumbersOf) -> None:
    video = write_video(tmp_path / "a.mp4", width_px=96, rotation=90)
    before, after = (decode_video(file, Sampling(3)) for file in (video, pack(video)))
    assert before.shape == after.shape == (3, 96, 64, 3)
    assert numbers_of(np.rot90(after, -1, axes=(1, 2))) == numbers_of(np.rot90(before, -1, axes=(1, 2)))


def write_scene(path: Path, width_px: int, height_px: int, *, pixel_format: str, bt709: bool) -> Path:
    """Drifting waves, long ones in colour and short ones in brightness, with the noise of a camera."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height_px, :width_px]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "18"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, pixel_format
        if bt709:
            stream.codec_context.colorspace = 1
        for index in range(80):
            colours = [np.sin(x / 30 + index / 10), np.sin(y / 20 - index / 7), np.sin((x + y) / 40 + index / 15)]
            light = np.sin(x / 4 - index / 3) * np.sin(y / 6)
            noise = rng.normal(0, 4, (height_px, width_px, 3))
            noisy = 127 + 60 * np.stack(colours, axis=2) + 50 * light[..., None] + noise
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy.clip(0, 255).astype(np.uint8))))
        container.mux(stream.encode(None))
    return path


def psnr_db(frames: npt.NDArray[np.uint8], originals: npt.NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((frames.astype(np.float64) - originals) ** 2)))


@pytest.mark.parametrize(
    ("pixel_format", "bt709"), [("yuv420p", False), ("yuv420p", True), ("yuvj420p", False)], ids=str
)
def test_frames_are_kept_at_38_db(tmp_path: Path, pixel_format: str, bt709: bool) -> None:
    video = write_scene(tmp_path / "a.mp4", 170, 128, pixel_format=pixel_format, bt709=bt709)
    assert psnr_db(decode_video(pack(video), Sampling(16)), decode_video(video, Sampling(16))) >= 38


def test_scaled_frames_are_those_that_decoding_at_that_size_gives(tmp_path: Path) -> None:
    video = write_scene(tmp_path / "a.mp4", 320, 256, pixel_format="yuv420p", bt709=False)
    scaled = decode_video(video, Sampling(16), short_side_px=128)
    assert psnr_db(decode_video(pack(video, short_side_px=128), Sampling(16)), scaled) >= 36
