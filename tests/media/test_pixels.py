"""Colours and sizes of decoded video frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cover.media.pixels import make_pictures, scale_down, scaled_size
from cover.media.sampling import Sampling
from cover.media.video import decode_video

COLOUR = (200, 40, 90)
MATRICES = {"bt709": (0.2126, 0.0722, 1), "bt601": (0.299, 0.114, 6), "bt2020": (0.2627, 0.0593, 9)}
"""Weights of red and blue (ITU-R BT.709, BT.601, BT.2020), and the number in tags of files."""


def rgb_of(frames: Sequence[av.VideoFrame], short_side_px: int | None = None) -> npt.NDArray[np.uint8]:
    return np.stack([picture.rgb for picture in make_pictures(frames, short_side_px)])


def ycbcr(matrix: str, is_full: bool, bits: int) -> list[int]:
    red, green, blue = (value / 255 for value in COLOUR)
    weight_red, weight_blue, _ = MATRICES[matrix]
    y = weight_red * red + (1 - weight_red - weight_blue) * green + weight_blue * blue
    chroma = [(blue - y) / (2 - 2 * weight_blue), (red - y) / (2 - 2 * weight_red)]
    unit = 2 ** (bits - 8)
    if is_full:
        return [round(y * (2**bits - 1)), *(round(c * (2**bits - 1) + 128 * unit) for c in chroma)]
    return [round((16 + 219 * y) * unit), *(round((128 + 224 * c) * unit) for c in chroma)]


def write_colour(path: Path, matrix: str | None, is_full: bool, pixel_format: str) -> Path:
    """A lossless video of COLOUR, tagged with the matrix unless it is None, which means BT.601."""
    dtype = np.uint16 if "10" in pixel_format else np.uint8
    values = ycbcr(matrix or "bt601", is_full, 10 if "10" in pixel_format else 8)
    frame = av.VideoFrame(64, 48, pixel_format)
    for plane, value in zip(frame.planes, values, strict=True):
        plane.update(np.full(plane.buffer_size // dtype().itemsize, value, dtype).tobytes())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        if matrix is not None:
            tag, colour_range = MATRICES[matrix][2], 2 if is_full else 1
            stream.codec_context.colorspace, stream.codec_context.color_range = tag, colour_range
            frame.colorspace, frame.color_range = tag, colour_range
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p10le"])
@pytest.mark.parametrize(("matrix", "is_full"), [(m, full) for m in MATRICES for full in (False, True)])
def test_colours_are_converted_by_the_tagged_matrix_and_range(
    tmp_path: Path, matrix: str, is_full: bool, pixel_format: str
) -> None:
    video = write_colour(tmp_path / "a.mp4", matrix, is_full, pixel_format)
    for short_side_px in (None, 24):
        frames = decode_video(video, Sampling(1), short_side_px=short_side_px)
        assert np.abs(frames.astype(int) - COLOUR).max() <= 3


def test_untagged_colours_are_bt601(tmp_path: Path) -> None:
    frames = decode_video(write_colour(tmp_path / "a.mp4", None, False, "yuv420p"), Sampling(1))
    assert np.abs(frames.astype(int) - COLOUR).max() <= 3


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le", "rgb24"])
def test_scaling_averages_instead_of_picking_pixels(pixel_format: str) -> None:
    stripes = np.zeros((240, 320, 3), np.uint8)
    stripes[:, ::2] = 255
    frame = av.VideoFrame.from_ndarray(stripes).reformat(format=pixel_format)
    for short_side_px in (60, 59, 30):
        scaled = rgb_of([frame], short_side_px)
        width_px, height_px = scaled_size(320, 240, short_side_px)
        assert scaled.shape == (1, height_px, width_px, 3) and height_px == short_side_px
        assert np.abs(scaled[:, :, 2:-2].astype(int) - 127).max() <= 24


def test_scaled_frames_look_like_pillows(draw_number: Callable[..., Any]) -> None:
    scene = Image.fromarray(draw_number(21845, 340, 256)).rotate(20, Image.Resampling.BILINEAR)
    frame = av.VideoFrame.from_image(scene).reformat(format="yuv420p")
    scaled = rgb_of([frame], 224)[0]
    pillows = Image.fromarray(rgb_of([frame])[0]).resize((298, 224), Image.Resampling.BILINEAR)
    assert np.square(scaled - np.asarray(pillows, float)).mean() < 255**2 / 10**3.8  # 38 dB


def test_short_sides_are_brought_down_only_and_turned_videos_upright(
    tmp_path: Path, write_video: Callable[..., Path], numbers_of: Callable[[Any], list[int]]
) -> None:
    video = write_video(tmp_path / "a.mp4", width_px=160, height_px=96, rotation=90)
    shapes = {None: (3, 160, 96, 3), 96: (3, 160, 96, 3), 500: (3, 160, 96, 3), 48: (3, 80, 48, 3)}
    for short_side_px, shape in shapes.items():
        frames = decode_video(video, Sampling(3), short_side_px=short_side_px)
        assert frames.shape == shape
        assert numbers_of(np.rot90(frames, -1, axes=(1, 2))) == [5, 15, 25]


def test_frames_of_several_sizes_take_that_of_the_first(
    draw_number: Callable[..., Any], numbers_of: Callable[[Any], list[int]]
) -> None:
    frames = [av.VideoFrame.from_ndarray(draw_number(number, 64 * number, 48)) for number in (1, 2, 3)]
    assert rgb_of(frames).shape == (3, 48, 64, 3) and numbers_of(rgb_of(frames)) == [1, 2, 3]


def test_transparent_parts_are_white() -> None:
    pixels = np.full((8, 8, 4), (200, 100, 0, 255), np.uint8)
    pixels[:4, :, 3] = 0
    pixels[4:6, :, 3] = 51
    rgb = rgb_of([av.VideoFrame.from_ndarray(pixels, format="rgba")])[0]
    assert rgb[0, 0].tolist() == [255, 255, 255]
    assert rgb[5, 0].tolist() == [244, 224, 204]
    assert rgb[7, 0].tolist() == [200, 100, 0]


def test_scale_down_brings_the_short_side_down_only() -> None:
    assert scale_down(np.zeros((2, 240, 320, 3), np.uint8), 120).shape == (2, 120, 160, 3)
    assert scale_down(np.zeros((2, 320, 240, 3), np.uint8), 120).shape == (2, 160, 120, 3)
    small = np.zeros((2, 100, 90, 3), np.uint8)
    assert scale_down(small, 120) is small
