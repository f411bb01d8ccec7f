"""Real media files whose pixels tell which frame they are, made by the tests themselves."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest

Frames = npt.NDArray[np.uint8]

os.environ.setdefault("MKL_CBWR", "AUTO")  # as training has it, before any test computes
gc.disable()  # until all tests are collected, whose many objects stay
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores; tests send it


def pytest_collection_finish() -> None:
    """Collect garbage rarely: libraries and tests are millions of objects, none of which ever goes."""
    gc.freeze()
    gc.unfreeze()  # into the oldest generation
    gc.set_threshold(20_000, 10, 10)
    gc.enable()


def _draw_number(number: int, width_px: int, height_px: int) -> Frames:
    """uint8 [Y,X,3]: `number` in 16 bits, a 4 × 4 grid of black and white, which no codec or scaling can blur away.

    The last bit is always set, so that a black frame is not a number.
    """
    bits = np.array([number >> bit & 1 for bit in range(15)] + [1], np.uint8).reshape(4, 4)
    rows, columns = np.arange(height_px) * 4 // height_px, np.arange(width_px) * 4 // width_px
    return np.repeat(255 * bits[rows][:, columns, None], 3, axis=2)


def _read_number(frame: Frames) -> int:
    """The number drawn on uint8 [Y,X,3], at any size."""
    height_px, width_px = frame.shape[:2]
    rows, columns = np.arange(4) * height_px // 4 + height_px // 8, np.arange(4) * width_px // 4 + width_px // 8
    bits = frame[rows][:, columns].mean(axis=2).ravel() > 127
    assert bits[15], "no number is drawn on this frame"
    return int((bits[:15] << np.arange(15)).sum())


def _write_video(
    path: Path,
    *,
    num_frames: int = 30,
    fps: int = 25,
    width_px: int = 64,
    height_px: int = 64,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    keyframe_interval: int = 12,
    rotation: int = 0,
    times_ms: Sequence[int] | None = None,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    first_number: int = 0,
) -> Path:
    """Frame i shows the number `first_number` + i, at i / fps or at `times_ms[i]`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=fps, options=codec_options or {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, pixel_format
        stream.gop_size = keyframe_interval
        if codec.startswith("lib"):  # not FFmpeg's own, which would then write other slices
            stream.thread_count = 1  # several make small frames no faster, and those of VP8 wait in busy loops
        if rotation:
            stream.set_display_rotation(rotation)
        time_base = Fraction(1, fps) if times_ms is None else Fraction(1, 1000)
        stream.codec_context.time_base = time_base
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(_draw_number(first_number + index, width_px, height_px))
            frame.time_base = time_base
            frame.pts = index if times_ms is None else times_ms[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _write_image(path: Path, number: int = 0, *, width_px: int = 64, height_px: int = 64, **options: Any) -> Path:
    """A picture of `number`; `options` go to Pillow's save."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_draw_number(number, width_px, height_px)).save(path, **options)
    return path


@pytest.fixture(scope="session")
def draw_number() -> Callable[[int, int, int], Frames]:
    """draw_number(number, width_px, height_px) → uint8 [Y,X,3]."""
    return _draw_number


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """write_video(path, num_frames=…, fps=…, …) → path of a video whose frame i shows the number i."""
    return _write_video


@pytest.fixture(scope="session")
def write_image() -> Callable[..., Path]:
    """write_image(path, number, …) → path of an image that shows the number."""
    return _write_image


@pytest.fixture(scope="session")
def numbers_of() -> Callable[[npt.ArrayLike], list[int]]:
    """numbers_of(frames uint8 [T,Y,X,3] or tensor [T,3,Y,X]) → the numbers that they show."""

    def numbers_of(frames: npt.ArrayLike) -> list[int]:
        pixels = np.asarray(frames)
        return [_read_number(frame) for frame in (pixels if pixels.shape[-1] == 3 else pixels.transpose(0, 2, 3, 1))]

    return numbers_of


@pytest.fixture
def video_manifest(tmp_path: Path) -> Manifest:
    """Six square videos of two classes, of 20 to 25 frames; video i begins with the number 100 · i."""
    for index in range(6):
        file = tmp_path / "clips" / ("jump" if index % 2 else "run") / f"{index}.mp4"
        _write_video(file, num_frames=20 + index, first_number=100 * index)
    return index_folder(tmp_path / "clips", kind="video", out=tmp_path)[0]


@pytest.fixture
def image_manifest(tmp_path: Path) -> Manifest:
    """Five square images of two classes; image i shows the number i."""
    for index in range(5):
        _write_image(tmp_path / "pictures" / ("cat" if index % 2 else "dog") / f"{index}.png", index)
    return index_folder(tmp_path / "pictures", kind="image", out=tmp_path)[0]
