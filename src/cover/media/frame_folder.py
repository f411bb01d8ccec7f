"""A video as a folder of its frames, one image each: img_00001.jpg, img_00002.jpg, …"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cover.datasets.names import is_frame
from cover.errors import DecodeError
from cover.media.failures import decoding
from cover.media.image import decode_image, probe_image
from cover.media.sampling import Sampling
from cover.media.source import MediaInfo, MediaSource


def probe_frame_folder(folder: Path, *, fps: float | None) -> MediaInfo:
    """Facts about the video, whose duration is known if `fps` is. Raises DecodeError, naming the folder."""
    with decoding(folder):
        images = _list_images(folder)
    first = probe_image(MediaSource(folder / images[0]))
    seconds = len(images) / fps if fps else None
    return MediaInfo(len(images), fps or None, seconds, first.width_px, first.height_px)


def decode_frame_folder(
    folder: Path, sampling: Sampling, *, fps: float | None, short_side_px: int | None = None
) -> npt.NDArray[np.uint8]:
    """uint8 [T,Y,X,3], RGB, all of the size of the first: only the chosen images are opened.

    fps: None spreads the frames over the numbers of the images, which needs no frame rate; a segment does.
    short_side_px: as in decode_image.

    Raises DecodeError, naming the image or the folder.
    """
    with decoding(folder):
        images = _list_images(folder)
        chosen = [images[index] for index in _indices(len(images), sampling, fps)]
    frames = {name: decode_image(folder / name, short_side_px=short_side_px)[0] for name in dict.fromkeys(chosen)}
    height_px, width_px = frames[chosen[0]].shape[:2]
    return np.stack([_of_size(frames[name], width_px, height_px) for name in chosen])


def _list_images(folder: Path) -> list[str]:
    """Names in the order of the numbers in them. Hidden files, thumbnails' folders and optical flow are left out."""
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if is_frame(entry.name) and not entry.name.startswith(".") and not entry.is_dir()
        ]
    if not names:
        raise DecodeError("there are no images in this folder")
    return sorted(names, key=_by_numbers)


def _by_numbers(name: str) -> list[str | int]:
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", name))]


def _indices(num_images: int, sampling: Sampling, fps: float | None) -> list[int]:
    """Without a frame rate, a unit of time is a frame."""
    if not fps and (sampling.start_seconds is not None or sampling.end_seconds is not None):
        raise DecodeError("its segment is in seconds, and the manifest does not state its frame rate")
    rate = fps or 1.0
    # A millionth of a frame is added, lest a time on the edge of a frame be rounded into the one before.
    return [
        min(math.floor(seconds * rate + 1e-6), num_images - 1) for seconds in sampling.times_seconds(num_images / rate)
    ]


def _of_size(frame: npt.NDArray[np.uint8], width_px: int, height_px: int) -> npt.NDArray[np.uint8]:
    if frame.shape[:2] == (height_px, width_px):
        return frame
    return np.asarray(Image.fromarray(frame).resize((width_px, height_px), Image.Resampling.BILINEAR))
