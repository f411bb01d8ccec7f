"""Convert Pillow's images of any mode to RGB with 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_GREY_STEPS = {"L;2": 85, "L;4": 17}
"""Pillow's name of pixels with few bits → the step from one grey to the next."""


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to mode RGB. Transparent parts become white, as on a page.

    Pixels of up to 16 bits have a defined white, and keep their upper 8 bits. Others (floats, 32-bit and signed
    integers) have none:

    - floats between 0 and 1 are multiplied by 255;
    - other values are stretched, so that the smallest in the image becomes 0 and the largest 255;
    - an image with a single value keeps it, clipped to 0 to 255.

    NaN becomes black.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "L" and _is_signed(image):
        return Image.fromarray(_stretched(np.asarray(image).view(np.int8))).convert("RGB")
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_grey(image)).convert("RGB")
    if image.mode == "La":  # premultiplied grey has no other conversion
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    page = Image.new("RGB", image.size, "white")
    page.paste(rgba, mask=rgba)
    return page


def scale_key(image: Image.Image) -> None:
    """Scale the transparent colour of a PNG that is not loaded yet to 8 bits, as Pillow scales its pixels.

    Of 16 bits a channel, the upper 8 remain, so the closest colours become transparent, too.
    """
    key = image.info.get("transparency")
    packing = str(image.tile[0].args) if image.tile else ""  # type: ignore[attr-defined]
    if packing in _GREY_STEPS and isinstance(key, int):
        image.info["transparency"] = key * _GREY_STEPS[packing]
    elif packing == "RGB;16B" and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _is_signed(image: Image.Image) -> bool:
    tags: dict[int, Any] = getattr(image, "tag_v2", {})
    return tags.get(_SAMPLE_FORMAT) == (2,)


def _grey(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return uint8 [Y,X] for an image with one value of more than 8 bits a pixel."""
    tags: dict[int, Any] = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    grey: npt.NDArray[np.uint8]
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        (num_bits,) = tags.get(_BITS_PER_SAMPLE, (16,))
        grey = (values >> (num_bits - 8)).astype(np.uint8)
    else:
        if image.mode == "I" and tags.get(_SAMPLE_FORMAT, (1,)) == (1,):
            values = values.view(np.uint32)
        grey = _stretched(values)
    if tags.get(_PHOTOMETRIC) == 0:  # zero is white
        grey = 255 - grey
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = 255
    return grey


def _stretched(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low == high:
        low, high = 0.0, 255.0
    grey = np.empty(values.shape, np.uint8)
    for y, row in enumerate(values):  # row by row, because float64 for all pixels would take much memory
        scaled = (row.astype(np.float64) - low) * (255 / (high - low))
        grey[y] = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0).clip(0, 255).round()
    return grey
