"""Convert decoded video frames to RGB pictures as players show them: upright, not mirrored, with square pixels.

decoded          stretched to square pixels and         mirrored and turned as the
720 × 576   →    scaled to the requested size      →    display matrix says
                 (one resize)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import groupby
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from av.buffer import Buffer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from cover.media.failures import check_frame_size

# Like Pillow's BILINEAR, which crops use, this averages all pixels that become one.
_SCALING = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT

_SQUARE = Fraction(1)


_DISPLAY_MATRICES = {
    (1, 0, 0, 1): (False, 0),
    (0, -1, 1, 0): (False, 1),
    (-1, 0, 0, -1): (False, 2),
    (0, 1, -1, 0): (False, 3),
    (-1, 0, 0, 1): (True, 0),
    (0, 1, 1, 0): (True, 1),
    (1, 0, 0, -1): (True, 2),
    (0, -1, -1, 0): (True, 3),
}
"""The linear part (a, b, c, d) of a display matrix, x' = ax + cy and y' = bx + dy with y downwards → Orientation."""


class Orientation(NamedTuple):
    """How a decoded frame is turned into the shown one.

    Attributes:
        is_mirrored: Whether it is mirrored left to right first.
        quarter_turns: By how many quarters it is then turned counter-clockwise.
    """

    is_mirrored: bool = False
    quarter_turns: int = 0

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """Return the orientation that the frame's display matrix states.

        If the matrix has another angle, the nearest orientation counts.
        """
        data = cast("Buffer | None", frame.side_data.get("DISPLAYMATRIX"))
        if data is None:
            return cast("Orientation | None", frame.opaque) or cls()
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
        return cls(*_DISPLAY_MATRICES[max(_DISPLAY_MATRICES, key=lambda matrix: np.dot(matrix, (a, b, c, d)))])

    @property
    def display_matrix(self) -> list[int]:
        """The nine numbers of the display matrix, as files store them."""
        a, b, c, d = next(matrix for matrix, value in _DISPLAY_MATRICES.items() if value == self)
        return [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]

    @property
    def degrees(self) -> int:
        """The turn, 0 to 270 degrees counter-clockwise, plus 360 if the frame is mirrored before."""
        return 90 * self.quarter_turns + 360 * self.is_mirrored

    def turned(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Convert the size of a decoded frame to that of the shown one, or the other way round."""
        return (height_px, width_px) if self.quarter_turns % 2 else (width_px, height_px)

    def apply(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Convert pixels [Y,X,C] as decoded to pixels as shown."""
        return np.rot90(pixels[:, ::-1] if self.is_mirrored else pixels, self.quarter_turns)


def keep_orientation(frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """Yield the same frames, in presentation order. Frames after a turned keyframe are turned like it.

    In H.264 and HEVC, a keyframe can state the orientation of all following frames; FFmpeg records it only for the
    keyframe.
    """
    turned: Orientation | None = None
    for frame in frames:
        if frame.key_frame:
            orientation = Orientation.of(frame)
            turned = None if orientation == Orientation() else orientation
        if turned:
            frame.opaque = Orientation(*turned)  # one for each frame, because PyAV frees it with the frame
        yield frame


class Picture(NamedTuple):
    """A frame as it is shown.

    Attributes:
        rgb: uint8 [Y,X,3].
        end: When it stops being shown, in the stream's unit. A frame of unknown duration ends where it begins.
    """

    rgb: npt.NDArray[np.uint8]
    end: int


def make_pictures(
    frames: Iterable[VideoFrame], short_side_px: int | None = None, pixel_aspect: Fraction = _SQUARE
) -> Iterator[Picture]:
    """Convert frames to pictures, all in the size of the first one.

    Colours are converted by the matrix and range that a frame is tagged with (BT.601 and limited by default), in the
    same step as scaling. Transparent parts become white. Only the newest large frames are held.

    Args:
        frames: Decoded frames.
        short_side_px: Scale a longer short side down to this.
        pixel_aspect: The width of a decoded pixel divided by its height.

    Yields:
        A picture for each frame.
    """
    reformatter = VideoReformatter()
    size: tuple[int, int] | None = None
    for frame, repeats in groupby(frames):
        orientation = Orientation.of(frame)
        if size is None:
            size = orientation.turned(*scaled_size(*square_size(frame, pixel_aspect), short_side_px))
        upright = orientation.apply(_to_rgb(frame, orientation.turned(*size), reformatter))
        picture = Picture(upright, (frame.pts or 0) + (frame.duration or 0))
        yield from (picture for _ in repeats)


def square_size(frame: VideoFrame, pixel_aspect: Fraction) -> tuple[int, int]:
    """Return (width, height) of a decoded frame with square pixels. The height stays, as in the headers of MP4.

    Args:
        frame: The frame.
        pixel_aspect: The width of its pixels divided by their height.

    Raises:
        DecodeError: It has too many pixels, or none.
    """
    width_px, height_px = round(frame.width * pixel_aspect), frame.height
    check_frame_size(width_px, height_px)
    return width_px, height_px


def scaled_size(width_px: int, height_px: int, short_side_px: int | None) -> tuple[int, int]:
    """Return (width, height) with the short side scaled down to `short_side_px`. Smaller frames keep their size."""
    short = min(width_px, height_px)
    if short_side_px is None or short <= short_side_px:
        return width_px, height_px
    return round(width_px * short_side_px / short), round(height_px * short_side_px / short)


def scale_down(frames: npt.NDArray[np.uint8], short_side_px: int) -> npt.NDArray[np.uint8]:
    """Scale frames down so that their short side is at most `short_side_px`.

    Args:
        frames: uint8 [T,Y,X,3].
        short_side_px: The largest short side.

    Returns:
        uint8 [T,Y,X,3].
    """
    height_px, width_px = frames.shape[1:3]
    size = scaled_size(width_px, height_px, short_side_px)
    if size == (width_px, height_px):
        return frames
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)) for frame in frames])


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
    """Convert uint8 [Y,X,4] to [Y,X,3]."""
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == 255:
        return rgb
    return (255 - (alpha.astype(np.uint16) * (255 - rgb) + 127) // 255).astype(np.uint8)
