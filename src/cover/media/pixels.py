"""Decoded video frames → upright RGB pictures of the size that is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

# The filter of Pillow's BILINEAR, which cuts the crops: it averages over all pixels that become one.
_SCALING = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT


class Picture(NamedTuple):
    """A frame as it is shown.

    rgb: uint8 [Y,X,3].
    end: when it ceases to be shown, in the stream's unit; a frame of unknown duration ends where it begins.
    """

    rgb: npt.NDArray[np.uint8]
    end: int


def make_pictures(frames: Iterable[VideoFrame], short_side_px: int | None = None) -> Iterator[Picture]:
    """One picture a frame, as they come, all of the size of the first, its short side brought down to `short_side_px`.

    Colours are converted by the matrix and range that a frame is tagged with (BT.601 and limited where it is not), and
    scaled in the same step. Transparent parts lie on white. Of large frames, only the newest are held.
    """
    reformatter = VideoReformatter()
    size: tuple[int, int] | None = None
    for frame, repeats in groupby(frames):
        size = size or scaled_size(frame.width, frame.height, short_side_px)
        upright = np.rot90(_to_rgb(frame, size, reformatter), quarter_turns(frame))
        picture = Picture(upright, (frame.pts or 0) + (frame.duration or 0))
        yield from (picture for _ in repeats)


def scaled_size(width_px: int, height_px: int, short_side_px: int | None) -> tuple[int, int]:
    """(width, height) with the short side brought down to `short_side_px`; what is smaller stays as it is."""
    short = min(width_px, height_px)
    if short_side_px is None or short <= short_side_px:
        return width_px, height_px
    return round(width_px * short_side_px / short), round(height_px * short_side_px / short)


def quarter_turns(frame: VideoFrame) -> int:
    """By which a decoded frame is turned counter-clockwise to be shown, 0 to 3."""
    return round(frame.rotation / 90) % 4


def _to_rgb(frame: VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> npt.NDArray[np.uint8]:
    has_alpha = any(component.is_alpha for component in frame.format.components)
    converted = reformatter.reformat(
        frame,
        *size,
        "rgba" if has_alpha else "rgb24",
        interpolation=Interpolation.BILINEAR if size == (frame.width, frame.height) else _SCALING,
        threads=1,
    )
    pixels = cast("npt.NDArray[np.uint8]", converted.to_ndarray())
    return _on_white(pixels) if has_alpha else pixels


def _on_white(rgba: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 [Y,X,4] → [Y,X,3]."""
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == 255:
        return rgb
    return (255 - (alpha.astype(np.uint16) * (255 - rgb) + 127) // 255).astype(np.uint8)
