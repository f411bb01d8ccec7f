"""Rendered frames become ordinary files: JPEG images and H.264 videos. A file appears whole or not at all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from cover.core.atomic_files import whole_file
from cover.world.dataset import ClipFormat
from cover.world.game import TICS_PER_SECOND

SUFFIXES = {"image": ".jpg", "video": ".mp4"}

_JPEG_QUALITY = 90
# No look-ahead (x264's mb-tree): with it, the same frames gave different files from run to run.
_ENCODER_OPTIONS = {"preset": "veryfast", "crf": "21", "g": "12", "rc-lookahead": "0", "threads": "1"}


def write_image(path: Path, frame: np.ndarray) -> None:
    """Write a picture, uint8 [Y, X, 3], as JPEG."""
    with whole_file(path) as unfinished:
        Image.fromarray(frame).save(unfinished, "jpeg", quality=_JPEG_QUALITY)


def write_video(path: Path, frames: np.ndarray, clip_format: ClipFormat) -> None:
    """Write a clip, uint8 [T, Y, X, 3], as H.264 in MP4 with a keyframe every 12 frames."""
    with whole_file(path) as unfinished, av.open(str(unfinished), "w", format="mp4") as container:
        rate = Fraction(TICS_PER_SECOND, clip_format.tics_per_frame)
        stream = container.add_stream("libx264", rate=rate, options=_ENCODER_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = clip_format.width_px, clip_format.height_px, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
