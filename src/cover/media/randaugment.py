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


@dataclass(frozen=True)
class RandAugment:
    """`num_ops` operations in a row, drawn uniformly from the paper's 14.

    Attributes:
        num_ops: The number of operations; 0 is off.
        magnitude: Their strength, from 0 to 10. 10 is the full range: rotation by 30°, shear 0.3, translation by 0.45
            of a side, colour, contrast, brightness and sharpness times 1 ± 0.9, four bits a colour, everything
            solarized. Directions are random.
    """

    num_ops: int = 0
    magnitude: float = 9.0

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
        for _ in range(self.num_ops):
            name = NAMES[rng.integers(len(NAMES))]
            sign = 1 if rng.random() < 0.5 else -1
            frames = apply(name, frames, sign * self.magnitude / MAX_MAGNITUDE)
        return torch.from_numpy(frames).permute(0, 3, 1, 2)


def apply(name: str, frames: Frames, strength: float) -> Frames:
    """Apply one operation to the frames of a clip.

    Args:
        name: One of NAMES.
        frames: uint8 [T,Y,X,3].
        strength: From -1 to 1.

    Returns:
        uint8 [T,Y,X,3].
    """
    if name in OF_A_CLIP:
        tall = Image.fromarray(frames.reshape(-1, *frames.shape[2:]))
        return np.array(OF_A_CLIP[name](tall, strength)).reshape(frames.shape)
    return np.stack([np.asarray(OF_A_FRAME[name](Image.fromarray(frame), strength)) for frame in frames])
