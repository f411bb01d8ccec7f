"""Decoded video frames → upright RGB arrays of the size that is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

# The filter of Pillow's BILINEAR, which cuts the crops: it averages over all pixels that become one.
_SCALING = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT


def to_rgb(frames: Sequence[VideoFrame], short_side_px: int | None = None) -> npt.NDArray[np.uint8]:
    """uint8 [T,Y,X,3], all of the size of the first, its short side brought down to `short_side_px`.

    Converted by the matrix and range that the frames are tagged with (BT.601 and limited where they are not), and
    scaled in the same step. Transparent parts lie on white.
    """
    width_px, height_px = scaled_size(frames[0].width, frames[0].height, short_side_px)
    reformatter = VideoReformatter()
    pixels = np.empty((len(frames), height_px, width_px, 3), np.uint8)
    for index, frame in enumerate(frames):
        if index and frame is frames[index - 1]:
            pixels[index] = pixels[index - 1]
            continue
        is_same_size = (frame.width, frame.height) == (width_px, height_px)
        has_alpha = any(component.is_alpha for component in frame.format.components)
        converted = reformatter.reformat(
            frame,
            width_px,
            height_px,
            "rgba" if has_alpha else "rgb24",
            interpolation=Interpolation.BILINEAR if is_same_size else _SCALING,
            threads=1,
        )
        rgb = cast("npt.NDArray[np.uint8]", converted.to_ndarray())
        pixels[index] = _on_white(rgb) if has_alpha else rgb
    return np.rot90(pixels, quarter_turns(frames[0]), axes=(1, 2))


def scaled_size(width_px: int, height_px: int, short_side_px: int | None) -> tuple[int, int]:
    """(width, height) with the short side brought down to `short_side_px`; what is smaller stays as it is."""
    short = min(width_px, height_px)
    if short_side_px is None or short <= short_side_px:
        return width_px, height_px
    return round(width_px * short_side_px / short), round(height_px * short_side_px / short)


def quarter_turns(frame: VideoFrame) -> int:
    """By which a decoded frame is turned counter-clockwise to be shown, 0 to 3."""
    return round(frame.rotation / 90) % 4


def _on_white(rgba: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 [Y,X,4] → [Y,X,3]."""
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == 255:
        return rgb
    return (255 - (alpha.astype(np.uint16) * (255 - rgb) + 127) // 255).astype(np.uint8)
