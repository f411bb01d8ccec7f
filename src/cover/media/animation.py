"""Animations (GIF, WebP, APNG, AVIF) as videos, read by Pillow.

FFmpeg cannot read animated WebP, and drops the transparency of AVIF.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

import numpy as np
import numpy.typing as npt
from PIL import Image

from cover.media.content import Content
from cover.media.failures import check_work
from cover.media.frame_ends import check_canvas
from cover.media.image import open_image, upright_rgb, upright_size
from cover.media.pixels import scale_down
from cover.media.sampling import Sampling
from cover.media.source import AnySource, MediaInfo

Picture = npt.NDArray[np.uint8]


def probe_animation(source: AnySource, content: Content) -> MediaInfo:
    """Read the facts about an animation from its headers.

    Args:
        source: The file.
        content: What `content_of` found.

    Raises:
        DecodeError: It cannot be read; the message names the file.
    """
    with _open(source, content) as image:
        num_frames, seconds = len(content.ends_ms), content.ends_ms[-1] / 1000
        return MediaInfo(num_frames, num_frames / seconds, seconds, *upright_size(image))


def decode_animation(
    source: AnySource, content: Content, sampling: Sampling, *, short_side_px: int | None = None
) -> Picture:
    """Decode the frames of an animation that are shown at the sampled times.

    If a file is damaged after some frames, the last good one is repeated, as for videos.

    Args:
        source: The file.
        content: What `content_of` found; it says when each frame is shown.
        sampling: The times.
        short_side_px: Scale a longer short side down to this.

    Returns:
        uint8 [T,Y,X,3], RGB and upright, on white where transparent.

    Raises:
        DecodeError: The file has no readable frame, or takes too much work; the message names the file.
    """
    with _open(source, content) as image:
        chosen = _shown_at(content, _times_seconds(content, sampling))
        frames = np.empty(0, np.uint8)
        for index, picture in _pictures(image, sorted(set(chosen)), short_side_px):
            if not frames.size:
                frames = np.empty((len(chosen), *picture.shape), np.uint8)
            frames[np.equal(chosen, index)] = picture
        return frames


def decode_shown_pictures(
    source: AnySource, content: Content, sampling: Sampling
) -> Iterator[tuple[Picture, int, int]]:
    """Yield the frames of `decode_animation`, each once, with its begin and end in milliseconds.

    They come one at a time, because many large ones take much memory.

    Args:
        source: The file.
        content: What `content_of` found.
        sampling: The times.

    Raises:
        DecodeError: As in `decode_animation`.
    """
    with _open(source, content) as image:
        begins_ms = (0, *content.ends_ms)
        chosen = _shown_at(content, _times_seconds(content, sampling))
        for index, picture in _pictures(image, sorted(set(chosen)), None):
            yield picture, begins_ms[index], content.ends_ms[index]


def _times_seconds(content: Content, sampling: Sampling) -> list[float]:
    seconds = content.ends_ms[-1] / 1000
    return sampling.times_seconds(seconds, len(content.ends_ms) / seconds if seconds else None)


class AnimationStream:
    """The frames of an animation at regular steps, like FrameStream for a video.

    Args:
        source: The file.
        content: What `content_of` found.
        step_seconds: The time between frames; the first one is that at half a step.
        short_side_px: Scale a longer short side down to this.

    Attributes:
        duration_seconds: The length of the animation.
    """

    def __init__(
        self, source: AnySource, content: Content, *, step_seconds: float, short_side_px: int | None = None
    ) -> None:
        self._source, self._content, self._short_side_px = source, content, short_side_px
        self.duration_seconds = content.ends_ms[-1] / 1000
        num_steps = max(math.ceil(self.duration_seconds / step_seconds - 0.5 - 1e-9), 1)
        self._times = [(step + 0.5) * step_seconds for step in range(num_steps)]

    def __iter__(self) -> Iterator[Picture]:
        chosen = _shown_at(self._content, self._times)
        with _open(self._source, self._content) as image:
            pictures = _pictures(image, sorted(set(chosen)), self._short_side_px)
            for (_, picture), (_, steps) in zip(pictures, groupby(chosen), strict=True):
                for _ in steps:
                    yield picture


@contextmanager
def _open(source: AnySource, content: Content) -> Iterator[Image.Image]:
    with open_image(source) as image:
        check_canvas(*image.size)
        check_work("frames", len(content.ends_ms), *image.size)
        yield image


def _shown_at(content: Content, times_seconds: Iterable[float]) -> list[int]:
    """Return the numbers of the frames shown at the times. Adding a millionth keeps a time from being rounded down."""
    return [bisect_right(content.ends_ms[:-1], 1000 * time + 1e-6) for time in times_seconds]


def _pictures(image: Image.Image, indices: Sequence[int], short_side_px: int | None) -> Iterator[tuple[int, Picture]]:
    """Yield (number, uint8 [Y,X,3]) of the frames with these ascending numbers, all of one size."""
    size = upright_size(image)
    first = int(getattr(image, "default_image", False))  # an APNG may have a default image before its frames
    picture: Picture | None = None
    is_whole = True
    for index in indices:
        if is_whole:
            try:
                image.seek(first + index)
                frame = np.asarray(upright_rgb(image).crop((0, 0, *size)))
            except Exception:
                if picture is None:
                    raise
                is_whole = False
            else:
                picture = frame if short_side_px is None else scale_down(frame[None], short_side_px)[0]
        assert picture is not None
        yield index, picture
