"""Still images → one frame."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from cover.media.faults import check_frame_size, decoding
from cover.media.info import MediaInfo
from cover.media.source import Source

_FORMATS = ["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"]
"""What is decoded, in Pillow's names. It knows many more, and a damaged file must not wake Ghostscript."""

_ORIENTATION = 0x0112
"""EXIF's tag; values from 5 on turn the image on its side."""


def probe_image(source: Source | str | Path) -> MediaInfo:
    """Facts from an image's header. Raises DecodeError, naming the file, when it has none."""
    with open_image(Source.of(source)) as image:
        width_px, height_px = image.size
        if image.getexif().get(_ORIENTATION, 1) >= 5:
            width_px, height_px = height_px, width_px
        return MediaInfo(1, None, None, width_px, height_px)


def decode_image(source: Source | str | Path, *, short_side_px: int | None = None) -> npt.NDArray[np.uint8]:
    """uint8 [1,Y,X,3], RGB, turned upright by its EXIF orientation; of an animation the first frame.

    Transparent parts lie on white, as a page shows them; 16-bit grey keeps its upper 8 bits.
    short_side_px: a JPEG may come scaled down by 2, 4 or 8, as long as its short side is no less.

    Raises DecodeError, naming the file, for everything that gives no image.
    """
    with open_image(Source.of(source)) as image:
        if short_side_px is not None:
            image.draft(None, (short_side_px, short_side_px))
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(as_rgb(image))[None]


@contextmanager
def open_image(source: Source) -> Iterator[Image.Image]:
    """An image or animation, of which the header is read. What goes wrong here or in the block is a DecodeError."""
    with decoding(source), source.open() as file, _no_warnings(), Image.open(file, formats=_FORMATS) as image:
        check_frame_size(*image.size)
        yield image


_lock = threading.Lock()
_silenced = ExitStack()
_num_silencing = 0


@contextmanager
def _no_warnings() -> Iterator[None]:
    """No warnings of Pillow, which remarks on oddities in files by the thousand, while any thread is in the block.

    Filters belong to the process: if each thread restored those it found, the last might restore another's.
    """
    global _num_silencing
    with _lock:
        if not _num_silencing:
            _silenced.enter_context(warnings.catch_warnings(action="ignore"))
        _num_silencing += 1
    try:
        yield
    finally:
        with _lock:
            _num_silencing -= 1
            if not _num_silencing:
                _silenced.close()


def as_rgb(image: Image.Image) -> Image.Image:
    """`image` in mode RGB, on white where it is transparent."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):
        # Pillow's own conversion clips to 255, which turns 16-bit images white.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
