"""A video stored as a folder of images, one for each frame: img_00001.jpg, img_00002.jpg, …."""

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
    """Read the facts about the video.

    Args:
        folder: The folder.
        fps: Its frame rate; without one, the duration is unknown.

    Raises:
        DecodeError: There are no readable images; the message names the folder or image.
    """
    with decoding(folder):
        images = _list_images(folder)
    first = probe_image(MediaSource(folder / images[0]))
    seconds = len(images) / fps if fps else None
    return MediaInfo(len(images), fps or None, seconds, first.width_px, first.height_px)


def decode_frame_folder(
    folder: Path, sampling: Sampling, *, fps: float | None, short_side_px: int | None = None
) -> npt.NDArray[np.uint8]:
    """Decode sampled frames, all in the size of the first one. Only the chosen images are opened.

    Args:
        folder: The folder.
        sampling: The times.
        fps: The frame rate. None spreads the frames evenly over the images; a segment needs a frame rate.
        short_side_px: As in decode_image.

    Returns:
        uint8 [T,Y,X,3], RGB.

    Raises:
        DecodeError: An image cannot be decoded; the message names the image or folder.
    """
    with decoding(folder):
        images = _list_images(folder)
        chosen = [images[index] for index in _indices(len(images), sampling, fps)]
    frames = {name: decode_image(folder / name, short_side_px=short_side_px)[0] for name in dict.fromkeys(chosen)}
    height_px, width_px = frames[chosen[0]].shape[:2]
    return np.stack([_of_size(frames[name], width_px, height_px) for name in chosen])


def _list_images(folder: Path) -> list[str]:
    """List the names of the images, ordered by the numbers in them, without hidden files and optical flow."""
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
    """Return the numbers of the sampled images. Without a frame rate, the unit of time is one frame."""
    if not fps and (sampling.start_seconds is not None or sampling.end_seconds is not None):
        raise DecodeError("its segment is in seconds, but the manifest does not state its frame rate")
    if not fps and sampling.window is not None and sampling.window.seconds is not None:
        raise DecodeError("window_seconds is in seconds, but the manifest does not state its frame rate")
    rate = fps or 1.0
    # Adding a millionth of a frame keeps a time on the edge of a frame from being rounded into the previous frame.
    times = sampling.times_seconds(num_images / rate, rate)
    return [min(math.floor(seconds * rate + 1e-6), num_images - 1) for seconds in times]


def _of_size(frame: npt.NDArray[np.uint8], width_px: int, height_px: int) -> npt.NDArray[np.uint8]:
    if frame.shape[:2] == (height_px, width_px):
        return frame
    return np.asarray(Image.fromarray(frame).resize((width_px, height_px), Image.Resampling.BILINEAR))
