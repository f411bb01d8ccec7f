"""Videos and pictures with the statistics of real ones, and copies such as people share."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

Frames = npt.NDArray[np.uint8]


def scene(seed: int, *, num_frames: int = 8, width_px: int = 160, height_px: int = 120) -> Frames:
    """uint8 [T,Y,X,3]: a camera moves over a landscape whose amplitude falls with frequency, as in photos."""
    rng = np.random.default_rng(seed)
    side = 256
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    spectrum = rng.normal(size=(3, side, side)) + 1j * rng.normal(size=(3, side, side))
    spectrum[1:] = 0.5 * spectrum[0] + 0.5 * spectrum[1:]  # colours are correlated
    landscape = np.fft.ifft2(spectrum / np.maximum(frequency, 1 / side) ** 1.2).real.transpose(1, 2, 0)
    landscape = 128 + 50 * (landscape - landscape.mean()) / landscape.std()
    pixels = np.clip(landscape, 0, 255).astype(np.uint8)
    x, y = np.linspace(0, rng.integers(20, side - width_px, 2), num_frames).T.astype(int)
    return np.stack([pixels[b : b + height_px, a : a + width_px] for a, b in zip(x, y, strict=True)])


def write_frames(path: Path, frames: Frames, *, quality: int = 20) -> Path:
    """H.264 at 8 frames a second; `quality` is the constant rate factor; 40 and more is bad."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": str(quality)})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = (side // 2 * 2 for side in frames.shape[1:3])
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame))))
        container.mux(stream.encode(None))
    return path


def scaled(frames: Frames, width_px: int, height_px: int) -> Frames:
    return np.stack([np.asarray(Image.fromarray(frame).resize((width_px, height_px))) for frame in frames])


def cut(frames: Frames, share: float, x: float, y: float) -> Frames:
    """Cut `share` off each side; the rest lies at x, y from 0 (left, top) to 1 (right, bottom)."""
    height, width = (round(side * (1 - share)) for side in frames.shape[1:3])
    top, left = round((frames.shape[1] - height) * y), round((frames.shape[2] - width) * x)
    return frames[:, top : top + height, left : left + width]


def with_bars(frames: Frames, share: float) -> Frames:
    """Black bars above and below, each `share` of the height."""
    height = round(frames.shape[1] * share)
    return np.pad(frames, ((0, 0), (height, height), (0, 0), (0, 0)))
