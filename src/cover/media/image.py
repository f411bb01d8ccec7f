"""Still images → one frame."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from cover.media.faults import check_frame_size, decoding
from cover.media.info import MediaInfo
from cover.media.source import Source

_FORMATS = ["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"]
"""What is decoded, in Pillow's names: all it knows would let a file choose the oldest of parsers, or Ghostscript."""


def probe_image(source: Source | str | Path) -> MediaInfo:
    """Facts from an image's header. Raises DecodeError, naming the file, when it has none."""
    source = Source.of(source)
    with _open_image(source) as image:
        turned = image.getexif().get(0x0112, 1) >= 5
        width_px, height_px = reversed(image.size) if turned else image.size
        return MediaInfo(1, None, None, width_px, height_px)


def decode_image(source: Source | str | Path, *, short_side_px: int | None = None) -> npt.NDArray[np.uint8]:
    """uint8 [1,Y,X,3], RGB, turned upright by its EXIF orientation; of an animation the first frame.

    Transparent parts lie on white, as a page shows them; 16-bit grey keeps its upper 8 bits.
    short_side_px: a JPEG may come scaled down by 2, 4 or 8, as long as its short side is no less.

    Raises DecodeError, naming the file, for everything that gives no image.
    """
    source = Source.of(source)
    with _open_image(source) as image:
        if short_side_px is not None:
            image.draft(None, (short_side_px, short_side_px))
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))[None]


@contextmanager
def _open_image(source: Source) -> Iterator[Image.Image]:
    with decoding(source), source.open() as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of oddities in files by the thousand
        with Image.open(file, formats=_FORMATS) as image:
            check_frame_size(*image.size)
            yield image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow's own conversion clips to 255, which turns 16-bit images white.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
