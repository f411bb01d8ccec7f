"""Where a frame is cropped, in source pixels, and cropping.

+--------------------------+     "scale the short side to s, then crop c × c" is one square box
|        +--------+        |     of side c · short side / s in the source, to the nearest pixel,
|        |  box   |        |     resized to c × c in a single step
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
    """Return the box for: scale the short side to U(min, max), crop at random, mirror at random.

    It always makes four draws, so that switching mirroring off leaves the crops unchanged.

    Args:
        width_px: The width of the frame.
        height_px: The height of the frame.
        crop_px: The side of the crop.
        short_side_px: (min, max) of the short side after scaling, neither less than `crop_px`.
        flip_probability: How often to mirror, from 0 to 1.
        rng: The source of randomness.
    """
    side = max(round(crop_px * min(width_px, height_px) / rng.uniform(*short_side_px)), 1)
    left, top = (int(rng.random() * (size - side + 1)) for size in (width_px, height_px))
    return CropBox(left, top, side, side, flip=bool(rng.random() < flip_probability))


def evaluation_boxes(width_px: int, height_px: int, *, num_crops: int = 3) -> list[CropBox]:
    """Return square boxes as large as the short side, spread evenly along the longer side.

    A single box is in the centre.

    Args:
        width_px: The width of the frame.
        height_px: The height of the frame.
        num_crops: How many boxes.
    """
    side = min(width_px, height_px)
    fractions = [0.5] if num_crops == 1 else [crop / (num_crops - 1) for crop in range(num_crops)]
    return [
        CropBox(round(fraction * (width_px - side)), round(fraction * (height_px - side)), side, side)
        for fraction in fractions
    ]


def crop(frames: npt.NDArray[np.uint8], box: CropBox, crop_px: int) -> Tensor:
    """Cut the same box out of every frame and resize it.

    Resizing is bilinear, with antialiasing when it makes the box smaller. A box that already has the size of the crop
    is copied unchanged.

    Args:
        frames: uint8 [T,Y,X,3].
        box: The box.
        crop_px: The side of the crop.

    Returns:
        uint8 [T,3,crop,crop]. In memory the channels come last, as in `frames`; what copies the clip into a batch
        changes that.
    """
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    if (box.height, box.width) == (crop_px, crop_px):
        clip = torch.from_numpy(frames[:, rows, columns].copy()).permute(0, 3, 1, 2)
        return clip.flip(3) if box.flip else clip
    clip = torch.empty(len(frames), crop_px, crop_px, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    for index, frame in enumerate(frames):  # one at a time, so that a frame stays in the processor's cache
        pixels = torch.from_numpy(frame[None, rows, columns].copy()).permute(0, 3, 1, 2)
        scaled = F.interpolate(pixels, (crop_px, crop_px), mode="bilinear", antialias=True)[0]
        clip[index] = scaled.flip(2) if box.flip else scaled
    return clip
