"""RandAugment, the same for all frames of a clip (E. Cubuk et al., "RandAugment", 2020).

Operations that depend on the colours of a picture see all frames as one tall picture, so that one colour table holds
for the whole clip. Operations that depend on a pixel's surroundings see each frame by itself:

    +---------+
    | frame 0 |   autocontrast, equalize,         rotate, shear, translate,   +---------+  +---------+
    +---------+   solarize, posterize,            sharpness                   | frame 0 |  | frame 1 |
    | frame 1 |   color, contrast, brightness                                 +---------+  +---------+
    +---------+

No operation mirrors, so a clip of a class with "left" in its name keeps its label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

Frames = npt.NDArray[np.uint8]
Operation = Callable[[Image.Image, float], Image.Image]
"""Takes a picture and a strength from 0 (hardly any change) to 1, or to -1 if the operation has a direction."""

GREY = (128, 128, 128)
"""The colour of what comes in from outside the frame."""

MAX_MAGNITUDE = 10


def enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    """Return an operation that multiplies colour, contrast, brightness or sharpness by 1 + 0.9 · strength."""
    return lambda image, strength: kind(image).enhance(1 + 0.9 * strength)


def affine(matrix: Callable[[float, int, int], tuple[float, ...]]) -> Operation:
    """Return an affine operation.

    Args:
        matrix: (strength, width, height) → (a, b, c, d, e, f); pixel (x, y) comes from (ax + by + c, dx + ey + f).
    """

    def operation(image: Image.Image, strength: float) -> Image.Image:
        values = matrix(strength, *image.size)
        bilinear = Image.Resampling.BILINEAR
        return image.transform(image.size, Image.Transform.AFFINE, values, bilinear, fillcolor=GREY)

    return operation


def keep_bits(image: Image.Image, num_bits: int) -> Image.Image:
    """Keep the highest bits of each value; none is black, which Pillow's posterize refuses."""
    return image.point([value & (256 - 2 ** (8 - num_bits)) for value in range(256)] * 3)


def brighten_dark(image: Image.Image, amount: int) -> Image.Image:
    """Add to the values of a picture that are below 128, up to 255."""
    table = [min(value + amount, 255) if value < 128 else value for value in range(256)]
    return image.point(table * 3)


OF_A_CLIP: dict[str, Operation] = {
    "identity": lambda image, _: image,
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "solarize": lambda image, strength: ImageOps.solarize(image, round(256 * (1 - abs(strength)))),
    "posterize": lambda image, strength: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
    "color": enhance(ImageEnhance.Color),
    "contrast": enhance(ImageEnhance.Contrast),
    "brightness": enhance(ImageEnhance.Brightness),
}
OF_A_FRAME: dict[str, Operation] = {
    "sharpness": enhance(ImageEnhance.Sharpness),
    "rotate": lambda image, strength: image.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=GREY),
    "shear_x": affine(lambda strength, _width, _height: (1, 0.3 * strength, 0, 0, 1, 0)),
    "shear_y": affine(lambda strength, _width, _height: (1, 0, 0, 0.3 * strength, 1, 0)),
    "translate_x": affine(lambda strength, width, _height: (1, 0, 0.45 * strength * width, 0, 1, 0)),
    "translate_y": affine(lambda strength, _width, height: (1, 0, 0, 0, 1, 0.45 * strength * height)),
}
NAMES = (*OF_A_CLIP, *OF_A_FRAME)

OF_TIMM: dict[str, Operation] = {
    "invert": lambda image, _: ImageOps.invert(image),
    "posterize_to_0": lambda image, strength: keep_bits(image, 4 - int(4 * abs(strength))),
    "solarize_add": lambda image, strength: brighten_dark(image, int(110 * abs(strength))),
}
"""Operations of timm that the paper has not, or has with another range. They see a clip as one picture."""

OPERATIONS: dict[str, tuple[str, ...]] = {
    "paper": NAMES,
    "timm": (*(name for name in NAMES if name not in ("identity", "posterize")), *OF_TIMM),
}
"""What operations are drawn from: the paper's 14, or the 15 of timm's "increasing" policies."""


@dataclass(frozen=True)
class RandAugment:
    """`num_ops` operations in a row, drawn uniformly from the paper's 14 or from timm's 15.

    Attributes:
        num_ops: The number of operations; 0 is off.
        magnitude: Their strength, from 0 to 10. 10 is the full range: rotation by 30°, shear 0.3, translation by 0.45
            of a side, colour, contrast, brightness and sharpness times 1 ± 0.9, four bits a colour, everything
            solarized. Directions are random.
        probability: How often a drawn operation is applied, from 0 to 1.
        magnitude_std: Standard deviation of the magnitude, which is drawn for each operation and clipped to [0, 10].
        operations: A key of OPERATIONS. timm's `posterize` keeps 4 to 0 bits.
    """

    num_ops: int = 0
    magnitude: float = 9.0
    probability: float = 1.0
    magnitude_std: float = 0.0
    operations: Literal["paper", "timm"] = "paper"

    def __call__(self, clip: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment a clip.

        Args:
            clip: uint8 [T,3,Y,X]. It is not copied if its channels come last in memory, as `crop` returns it.
            rng: The source of randomness.

        Returns:
            uint8 [T,3,Y,X], with the channels last in memory.
        """
        if not self.num_ops:
            return clip
        frames = clip.permute(0, 2, 3, 1).contiguous().numpy()
        names = OPERATIONS[self.operations]
        for _ in range(self.num_ops):
            name = names[rng.integers(len(names))]
            if self.probability < 1 and rng.random() >= self.probability:
                continue
            sign, magnitude = 1 if rng.random() < 0.5 else -1, self.magnitude
            if self.magnitude_std:
                magnitude = min(max(rng.normal(magnitude, self.magnitude_std), 0.0), MAX_MAGNITUDE)
            frames = apply(name, frames, sign * magnitude / MAX_MAGNITUDE)
        return torch.from_numpy(frames).permute(0, 3, 1, 2)


def apply(name: str, frames: Frames, strength: float) -> Frames:
    """Apply one operation to the frames of a clip.

    Args:
        name: One of an entry of OPERATIONS.
        frames: uint8 [T,Y,X,3].
        strength: From -1 to 1.

    Returns:
        uint8 [T,Y,X,3].
    """
    if operation := OF_A_CLIP.get(name) or OF_TIMM.get(name):
        tall = Image.fromarray(frames.reshape(-1, *frames.shape[2:]))
        return np.array(operation(tall, strength)).reshape(frames.shape)
    return np.stack([np.asarray(OF_A_FRAME[name](Image.fromarray(frame), strength)) for frame in frames])
