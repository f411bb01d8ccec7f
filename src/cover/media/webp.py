"""Animated WebP as videos, through Pillow: FFmpeg reads only still ones."""

from __future__ import annotations

import struct
from bisect import bisect_right
from itertools import accumulate

import numpy as np
import numpy.typing as npt
from PIL import Image

from cover.media.faults import decoding
from cover.media.image import as_rgb, open_image
from cover.media.info import MediaInfo
from cover.media.sampling import Sampling
from cover.media.source import Source


def is_webp(source: Source) -> bool:
    """By the first bytes. Raises DecodeError if there is no such file."""
    with decoding(source), source.open() as file:
        head = file.read(12)
        return head[:4] == b"RIFF" and head[8:] == b"WEBP"


def probe_webp(source: Source) -> MediaInfo:
    """Facts from the header and the frames' delays. Raises DecodeError, naming the file."""
    with open_image(source) as image:
        delays_ms = _delays_ms(source)
        seconds = sum(delays_ms) / 1000
        return MediaInfo(len(delays_ms), len(delays_ms) / seconds if seconds else None, seconds, *image.size)


def decode_webp(source: Source, sampling: Sampling) -> npt.NDArray[np.uint8]:
    """uint8 [T,Y,X,3], RGB, on white where transparent. A still image is a video of one frame.

    Raises DecodeError, naming the file, for everything that gives no frame.
    """
    with open_image(source) as image:
        delays_ms = _delays_ms(source)
        ends_ms = list(accumulate(delays_ms))
        times_seconds = sampling.times_seconds(ends_ms[-1] / 1000)
        chosen = [bisect_right(ends_ms[:-1], 1000 * seconds + 1e-6) for seconds in times_seconds]
        frames = {index: _frame(image, index) for index in sorted(set(chosen))}
        return np.stack([frames[index] for index in chosen])


def _frame(image: Image.Image, index: int) -> npt.NDArray[np.uint8]:
    image.seek(index)
    return np.asarray(as_rgb(image))


def _delays_ms(source: Source) -> list[int]:
    """For how long each frame is shown, which Pillow would tell only frame by decoded frame.

    Delays of at most 10 ms are shown for 100 ms by browsers. A still image has one.
    """
    delays: list[int] = []
    with source.open() as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            if name == b"ANMF":
                frame = file.read(16)
                delay = int.from_bytes(frame[12:15], "little")
                delays.append(delay if delay > 10 else 100)
                size -= len(frame)
            file.seek(size + size % 2, 1)
    return delays or [100]
