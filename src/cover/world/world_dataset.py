"""What a built-in dataset is, and how its frames become ordinary files: JPEG images and H.264 videos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from cover.core.atomic_files import whole_file
from cover.datasets.names import Kind
from cover.world.game import TICS_PER_SECOND, Game

SUFFIXES = {"image": ".jpg", "video": ".mp4"}
_JPEG_QUALITY = 90
# No look-ahead (x264's mb-tree): with it, the same frames gave different files from run to run.
_ENCODER_OPTIONS = {"preset": "veryfast", "crf": "21", "g": "12", "rc-lookahead": "0", "threads": "1"}


@dataclass(frozen=True)
class ClipFormat:
    """Size and length of a rendered clip; an image has one frame.

    Attributes:
        tics_per_frame: Game time from one frame to the next; a tic is 1/35 s.
    """

    width_px: int
    height_px: int
    num_frames: int
    tics_per_frame: int

    @property
    def num_tics(self) -> int:
        """Game time from the first to the last frame."""
        return (self.num_frames - 1) * self.tics_per_frame


Draw = Callable[[Game, str, np.random.Generator, ClipFormat], np.ndarray | None]
"""(game in an episode on some map, class name, random source, format) → uint8 frames [T, Y, X, 3] of one clip whose
label is checked, or None if the check failed, so that the clip is drawn again. All randomness comes from the random
source and the episode's seed."""


@dataclass(frozen=True)
class WorldDataset:
    """A built-in dataset.

    Attributes:
        classes: Names of the class folders.
        quick_classes: Those of them that the quick preset renders.
        draw: Draws one checked clip.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...]
    quick_classes: tuple[str, ...]
    draw: Draw

    def __post_init__(self) -> None:
        assert set(self.quick_classes) <= set(self.classes) and len(set(self.classes)) == len(self.classes)


def write_image(path: Path, frame: np.ndarray) -> None:
    """Write a picture, uint8 [Y, X, 3], as JPEG; the file appears whole or not at all."""
    with whole_file(path) as unfinished:
        Image.fromarray(frame).save(unfinished, "jpeg", quality=_JPEG_QUALITY)


def write_video(path: Path, frames: np.ndarray, clip_format: ClipFormat) -> None:
    """Write a clip, uint8 [T, Y, X, 3], as H.264 in MP4 with a keyframe every 12 frames; the file appears whole or not
    at all."""
    with whole_file(path) as unfinished, av.open(str(unfinished), "w", format="mp4") as container:
        rate = Fraction(TICS_PER_SECOND, clip_format.tics_per_frame)
        stream = container.add_stream("libx264", rate=rate, options=_ENCODER_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = clip_format.width_px, clip_format.height_px, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
