"""Videos are decoded as players show them: upright, not mirrored, with square pixels, on white where transparent."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.bitstream import BitStreamFilterContext

from cover.curation.packed_video import shorten, write_short_clip
from cover.datasets.manifest import ManifestRow
from cover.errors import DecodeError
from cover.media.live_stream import LiveStream
from cover.media.pixels import Orientation, make_pictures
from cover.media.sampling import Sampling
from cover.media.sequential import FrameStream
from cover.media.video import decode_video, probe_video

Pixels = npt.NDArray[np.uint8]

# a, b, c, d of x' = ax + cy and y' = bx + dy; what happens to the picture; what a manifest says
MATRICES: dict[str, tuple[tuple[float, float, float, float], Callable[[Pixels], Pixels], int]] = {
    "as it is": ((1, 0, 0, 1), lambda p: p, 0),
    "a quarter left": ((0, -1, 1, 0), lambda p: np.rot90(p), 90),
    "upside down": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1], 180),
    "a quarter right": ((0, 1, -1, 0), lambda p: np.rot90(p, -1), 270),
    "left to right": ((-1, 0, 0, 1), lambda p: p[:, ::-1], 360),
    "transposed": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2), 450),
    "top to bottom": ((1, 0, 0, -1), lambda p: p[::-1], 540),
    "across": ((0, -1, -1, 0), lambda p: p[::-1, ::-1].transpose(1, 0, 2), 630),
    "by 80 degrees, nearly a quarter": ((0.174, -0.985, 0.985, 0.174), lambda p: np.rot90(p), 90),
    "nothing": ((0, 0, 0, 0), lambda p: p, 0),
}


def corners(width_px: int = 64, height_px: int = 48) -> Pixels:
    """Four quarters that differ: red, green, blue and grey."""
    pixels = np.full((height_px, width_px, 3), 128, np.uint8)
    pixels[: height_px // 2, : width_px // 2] = (255, 0, 0)
    pixels[: height_px // 2, width_px // 2 :] = (0, 255, 0)
    pixels[height_px // 2 :, : width_px // 2] = (0, 0, 255)
    return pixels


def write(
    path: Path,
    pixels: Pixels,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv444p",
    matrix: tuple[float, float, float, float] | None = None,
    pixel_aspect: Fraction | None = None,
    filtered_by: str = "",
) -> Path:
    """One second at 8 frames a second. filtered_by: a bitstream filter of FFmpeg."""
    form = "rgba" if pixels.shape[2] == 4 else "rgb24"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8, options={"auto-alt-ref": "0"} if codec == "libvpx" else {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = pixels.shape[1], pixels.shape[0], pixel_format
        if matrix is not None:
            a, b, c, d = (int(value * 65536) for value in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        bitstream = BitStreamFilterContext(filtered_by, stream) if filtered_by else None
        for index in range(9):
            frame = av.VideoFrame.from_ndarray(pixels, form) if index < 8 else None
            for packet in stream.encode(frame):
                container.mux(bitstream.filter(packet) if bitstream else packet)
    return path


def packed(path: Path) -> Path:
    copy = path.with_suffix(".packed.mp4")
    write_short_clip(copy, shorten(ManifestRow("a", path.name, 0, root=path.parent), 8, 320))
    return copy


def assert_all_show(video: Path, wanted: Pixels) -> None:
    """Decode the video, its timeline, a live stream of it, and its packed copy, which has square pixels."""
    copy = packed(video)
    with LiveStream(str(video), num_frames=1, step_seconds=0.01) as live:
        (newest,) = next(live.windows(stride=1)).frames
    shown = {
        "decoded": decode_video(video, Sampling(1))[0],
        "by the beginning": decode_video(video, Sampling(1, end_seconds=0.1))[0],
        "streamed": next(iter(FrameStream(video, step_seconds=0.5))),
        "live": newest,
        "packed": decode_video(copy, Sampling(1))[0],
    }
    for way, frame in shown.items():
        assert frame.shape == wanted.shape, way
        assert np.abs(frame.astype(int) - wanted).mean() < 6, way
    for info in (probe_video(video), probe_video(copy)):
        assert (info.height_px, info.width_px) == wanted.shape[:2]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("name", MATRICES)
def test_display_matrices_are_applied(tmp_path: Path, name: str, suffix: str) -> None:
    matrix, shown, rotation = MATRICES[name]
    video = write(tmp_path / f"a.{suffix}", corners(), matrix=matrix)
    assert_all_show(video, shown(corners()))
    assert probe_video(video).rotation == probe_video(packed(video)).rotation == rotation


@pytest.mark.parametrize("suffix", ["ts", "avi"])
def test_an_orientation_that_only_keyframes_tell_is_that_of_all_frames(tmp_path: Path, suffix: str) -> None:
    mirrored = "h264_metadata=display_orientation=insert:rotate=90:flip=horizontal"
    video = write(tmp_path / f"a.{suffix}", corners(), filtered_by=mirrored)
    assert probe_video(video).rotation >= 360
    wanted = decode_video(video, Sampling(1, end_seconds=0.1))[0]  # the keyframe
    assert wanted.shape == (64, 48, 3)
    assert_all_show(video, wanted)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
@pytest.mark.parametrize(
    ("size", "aspect", "shown"),
    [
        ((720, 576), Fraction(64, 45), (1024, 576)),
        ((720, 480), Fraction(8, 9), (640, 480)),
        ((720, 576), Fraction(1, 2), (360, 576)),
        ((64, 48), Fraction(4320, 4319), (64, 48)),
    ],
    ids=str,
)
def test_pixels_become_square(
    tmp_path: Path, size: tuple[int, int], aspect: Fraction, shown: tuple[int, int], suffix: str
) -> None:
    video = write(tmp_path / f"a.{suffix}", corners(*size), pixel_format="yuv420p", pixel_aspect=aspect)
    assert (probe_video(video).width_px, probe_video(video).height_px) == shown
    frames = decode_video(video, Sampling(2))
    assert frames.shape == (2, shown[1], shown[0], 3)
    assert np.abs(frames[1].astype(int) - corners(*shown)).mean() < 6


def test_square_pixels_and_the_wanted_size_take_one_resize(tmp_path: Path) -> None:
    video = write(tmp_path / "a.mp4", corners(720, 576), matrix=(0, 1, -1, 0), pixel_aspect=Fraction(64, 45))
    frame = decode_video(video, Sampling(1), short_side_px=144)[0]
    assert frame.shape == (256, 144, 3)
    assert np.abs(frame.astype(int) - np.rot90(corners(256, 144), -1)).mean() < 6
    copy = probe_video(packed(video))
    assert (copy.width_px, copy.height_px, copy.rotation) == (320, 568, 270)
    with av.open(str(packed(video))) as container:
        assert container.streams.video[0].sample_aspect_ratio in (None, 1)


@pytest.mark.parametrize(("aspect", "size"), [(60_000, r"38400000×480"), (Fraction(1, 60_000), r"0×480")])
def test_an_aspect_that_makes_frames_too_large_or_empty_is_refused(aspect: Fraction, size: str) -> None:
    frame = av.VideoFrame.from_ndarray(corners(640, 480))
    with pytest.raises(DecodeError, match=f"its frames have {size} pixels"):
        list(make_pictures([frame], 224, Fraction(aspect)))


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_transparent_webm_lies_on_white(tmp_path: Path, codec: str) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., :3] = (0, 128, 0)
    pixels[:, 32:, 3] = 255
    video = write(tmp_path / "a.webm", pixels, codec=codec, pixel_format="yuva420p")
    wanted = np.full((64, 64, 3), 255, np.uint8)
    wanted[:, 32:] = (0, 128, 0)
    for file in (video, packed(video)):
        assert np.abs(decode_video(file, Sampling(8))[5].astype(int) - wanted).mean() < 6
    assert np.abs(next(iter(FrameStream(video, step_seconds=0.5))).astype(int) - wanted).mean() < 6


def test_frames_that_are_turned_on_the_way_take_the_size_of_the_first() -> None:
    frames = [av.VideoFrame.from_ndarray(corners()) for _ in range(2)]
    frames[1].opaque = Orientation(quarter_turns=1)
    first, second = (picture.rgb for picture in make_pictures(frames))
    assert first.shape == second.shape == (48, 64, 3)
    assert first[0, 0].tolist() == second[-1, 0].tolist() == [255, 0, 0]
