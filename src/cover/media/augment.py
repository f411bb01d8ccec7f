"""Where a frame is cut, as geometry in source pixels, and the cutting.

+--------------------------+     "scale the short side to s, then crop c × c" is one square box of side
|        +--------+        |     c · short side / s in the source, to the nearest pixel, resized to c × c
|        |  box   |        |     in a single step
|        |        |        |
+--------+--------+--------+
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class CropBox:
    """A rectangle in source pixels, and whether it is mirrored left to right."""

    left: int
    top: int
    width: int
    height: int
    flip: bool = False


def random_box(
    width_px: int,
    height_px: int,
    *,
    crop_px: int,
    short_side_px: tuple[int, int],
    flip_probability: float,
    rng: np.random.Generator,
) -> CropBox:
    """The box of: scale the short side to U(min, max), crop at random, flip at random.

    `short_side_px` is (min, max), neither less than `crop_px`. Always four draws, so that switching the flip off
    leaves the crops as they were.
    """
    side = max(round(crop_px * min(width_px, height_px) / rng.uniform(*short_side_px)), 1)
    left, top = (int(rng.random() * (size - side + 1)) for size in (width_px, height_px))
    return CropBox(left, top, side, side, flip=bool(rng.random() < flip_probability))


def evaluation_boxes(width_px: int, height_px: int, *, num_crops: int = 3) -> list[CropBox]:
    """Square boxes as high as the short side, spread over the longer: left, centre, right or top, centre, bottom.

    A single crop is the centre one.
    """
    side = min(width_px, height_px)
    fractions = [0.5] if num_crops == 1 else [crop / (num_crops - 1) for crop in range(num_crops)]
    return [
        CropBox(round(fraction * (width_px - side)), round(fraction * (height_px - side)), side, side)
        for fraction in fractions
    ]


def crop(frames: npt.NDArray[np.uint8], box: CropBox, crop_px: int) -> Tensor:
    """uint8 [T,Y,X,3] → contiguous uint8 tensor [T,3,crop,crop]: the same box of every frame.

    Bilinear, antialiased where it makes things smaller; a box of the crop's own size is copied as it is.
    """
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    if (box.height, box.width) == (crop_px, crop_px):
        clip = torch.from_numpy(frames[:, rows, columns].transpose(0, 3, 1, 2).copy())
        return clip.flip(3) if box.flip else clip
    clip = torch.empty(len(frames), 3, crop_px, crop_px, dtype=torch.uint8)
    for index, frame in enumerate(frames):  # one by one, so that what is made of a frame stays in the processor's cache
        pixels_CYX = torch.from_numpy(frame[rows, columns].copy()).permute(2, 0, 1)
        scaled = F.interpolate(pixels_CYX[None], (crop_px, crop_px), mode="bilinear", antialias=True)[0]
        clip[index] = scaled.flip(2) if box.flip else scaled
    return clip
