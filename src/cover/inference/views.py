"""A user's file → the views of it that a model sees."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cover.datasets.manifest import ManifestRow
from cover.datasets.names import Kind
from cover.media.augment import crop, evaluation_boxes
from cover.media.content import content_of
from cover.media.decode import decode_clips
from cover.media.sampling import Sampling, Window
from cover.media.source import MediaInfo


@dataclass(frozen=True)
class FileViews:
    """A decoded file. `frames` has its V views, uint8 [T,V,C,Y,X]; T is 1 for an image. Equal crops are one view."""

    file: Path
    kind: Kind
    frames: Tensor


@dataclass(frozen=True)
class Views:
    """The views of a file: num_clips clips × num_crops crops. An image has one frame and one clip.

    Attributes:
        num_frames: Frames of a clip.
        crop_px: Side of the square crops.
        num_clips: Clips, spread over the duration.
        num_crops: Crops along the longer side. Those of a square are all the same, and so only one view.
        window: The part of a video that a clip shows, as in training; None is all of it.
    """

    num_frames: int
    crop_px: int
    num_clips: int = 1
    num_crops: int = 3
    window: Window | None = None

    def __str__(self) -> str:
        frames = f"{self.num_frames} frame{'s' * (self.num_frames != 1)}"
        return f"{self.num_clips}x{self.num_crops} views of {frames}, {self.window or 'whole video'}"

    @classmethod
    def of_dict(cls, values: dict[str, Any]) -> Views:
        """Make views of what `dataclasses.asdict` gives, which can be stored as JSON."""
        window = values["window"]
        return cls(**{**values, "window": window and Window(**window)})

    def read(self, file: Path) -> FileViews:
        """Decode a video, an image, or a folder of frames.

        Raises:
            DecodeError: It cannot be decoded; the message names it.
        """
        kind = media_kind(file)
        row = ManifestRow(sample_id=file.name, path=str(file), label=0)
        views_tcyx: list[Tensor] = []
        num_clips, side_px = self.num_clips if kind == "video" else 1, self.crop_px
        for frames in decode_clips(
            row, kind, self.num_frames, num_clips=num_clips, window=self.window, short_side_px=side_px
        ):
            boxes = evaluation_boxes(frames.shape[2], frames.shape[1], num_crops=self.num_crops)
            views_tcyx += [crop(frames, box, self.crop_px) for box in dict.fromkeys(boxes)]
        return FileViews(file, kind, torch.stack(views_tcyx, dim=1).contiguous())

    def times_seconds(self, info: MediaInfo) -> tuple[float, ...] | None:
        """The times of the frames of a video's only clip; None if its length is not known."""
        if info.duration_seconds is None:
            return None
        sampling = Sampling(self.num_frames, window=self.window)
        return tuple(sampling.times_seconds(info.duration_seconds, info.fps))


def media_kind(path: Path) -> Kind:
    """Tell whether a file is a video or an image, by its content. A folder is a video of its frames.

    Raises:
        DecodeError: The file is missing or empty; the message names it.
    """
    return "video" if os.path.isdir(path) else content_of(path).kind
