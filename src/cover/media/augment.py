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
from PIL import Image, ImageEnhance
from torch import Tensor

from cover.config.clips import ScaleJitter

_LOG_ASPECT = float(np.log(4 / 3))


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
    scale_jitter: ScaleJitter = "uniform",
    flip_probability: float,
    rng: np.random.Generator,
) -> CropBox:
    """Return the box for: scale the short side to S of [min, max], crop at random, mirror at random.

    It always makes four draws, so that switching mirroring off leaves the crops unchanged.

    Args:
        width_px: The width of the frame.
        height_px: The height of the frame.
        crop_px: The side of the crop.
        short_side_px: (min, max) of the short side after scaling, neither less than `crop_px`.
        scale_jitter: S is from U(min, max), or 1/S from U(1/max, 1/min) if it is "inverse_uniform" (C. Feichtenhofer
            et al., "SlowFast Networks", in its published code).
        flip_probability: How often to mirror, from 0 to 1.
        rng: The source of randomness.
    """
    smallest, largest = short_side_px
    if scale_jitter == "uniform":
        scaled_px = rng.uniform(smallest, largest)
    else:
        scaled_px = 1 / rng.uniform(1 / largest, 1 / smallest)
    side = max(round(crop_px * min(width_px, height_px) / scaled_px), 1)
    left, top = (int(rng.random() * (size - side + 1)) for size in (width_px, height_px))
    return CropBox(left, top, side, side, flip=bool(rng.random() < flip_probability))


def random_resized_box(
    width_px: int,
    height_px: int,
    *,
    area: tuple[float, float],
    flip_probability: float,
    rng: np.random.Generator,
) -> CropBox:
    """Return a box with a random share of the frame's area and a random aspect (C. Szegedy et al., CVPR 2015, §6).

    The logarithm of width / height is uniform between those of 3/4 and 4/3. After ten boxes that do not fit, the
    largest square in the centre is taken.

    Args:
        width_px: The width of the frame.
        height_px: The height of the frame.
        area: (min, max) share of the area.
        flip_probability: How often to mirror, from 0 to 1.
        rng: The source of randomness.
    """
    flip = bool(rng.random() < flip_probability)
    for _ in range(10):
        area_px = rng.uniform(*area) * width_px * height_px
        aspect = np.exp(rng.uniform(-_LOG_ASPECT, _LOG_ASPECT))
        width, height = round((area_px * aspect) ** 0.5), round((area_px / aspect) ** 0.5)
        if 0 < width <= width_px and 0 < height <= height_px:
            left, top = int(rng.integers(width_px - width + 1)), int(rng.integers(height_px - height + 1))
            return CropBox(left, top, width, height, flip)
    side = min(width_px, height_px)
    return CropBox((width_px - side) // 2, (height_px - side) // 2, side, side, flip)


def jitter_colors(clip: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Multiply brightness, contrast and saturation by factors from U(1 - strength, 1 + strength), in random order.

    Args:
        clip: uint8 [T,3,Y,X].
        strength: From 0, which changes nothing, to 1.
        rng: The source of randomness.

    Returns:
        uint8 [T,3,Y,X], all frames changed alike.
    """
    if not strength:
        return clip
    frames = clip.permute(0, 2, 3, 1).contiguous().numpy()
    tall = Image.fromarray(frames.reshape(-1, *frames.shape[2:]))
    for kind in rng.permutation(3):
        enhancer = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[kind](tall)
        tall = enhancer.enhance(rng.uniform(1 - strength, 1 + strength))
    return torch.from_numpy(np.array(tall).reshape(frames.shape)).permute(0, 3, 1, 2)


def erase(clip: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    """Fill a random box with noise, the same box in every frame (Z. Zhong et al., "Random Erasing", AAAI 2020).

    The box has 1/50 to 1/3 of the area, and an aspect from 0.3 to 1/0.3. If none of ten boxes fits, nothing is erased.

    Args:
        clip: uint8 [T,3,Y,X].
        probability: How often, from 0 to 1.
        rng: The source of randomness.

    Returns:
        uint8 [T,3,Y,X].
    """
    if not probability or rng.random() >= probability:
        return clip
    height_px, width_px = clip.shape[2:]
    for _ in range(10):
        area_px = rng.uniform(1 / 50, 1 / 3) * width_px * height_px
        aspect = np.exp(rng.uniform(np.log(0.3), -np.log(0.3)))
        width, height = round((area_px * aspect) ** 0.5), round((area_px / aspect) ** 0.5)
        if 0 < width < width_px and 0 < height < height_px:
            left, top = int(rng.integers(width_px - width + 1)), int(rng.integers(height_px - height + 1))
            erased = clip.clone()
            noise = rng.integers(256, size=(len(clip), 3, height, width), dtype=np.uint8)
            erased[:, :, top : top + height, left : left + width] = torch.from_numpy(noise)
            return erased
    return clip


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
