"""Decode still images."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from cover.errors import DecodeError
from cover.media.content import EMPTY, HEAD_BYTES, image_format, usual_name, video_format
from cover.media.failures import check_frame_size, check_work, opened
from cover.media.heif import is_cut_short
from cover.media.rgb import as_rgb, scale_key
from cover.media.source import AnySource, MediaInfo, OpenMedia

_FORMATS = {"AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"}
"""The formats that are decoded, by Pillow's names. Pillow knows many more, and a damaged file must not start
Ghostscript.
"""

_ORIENTATION = 0x0112
_NEW_SUBFILE_TYPE = 254
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what turns the picture upright."""


def probe_image(source: AnySource) -> MediaInfo:
    """Read the facts about an image from its header.

    Args:
        source: A file, a member of a shard, or open media.

    Raises:
        DecodeError: The file is not an image; the message names it.
    """
    with open_image(source) as image:
        return MediaInfo(1, None, None, *upright_size(image))


def decode_image(source: AnySource, *, short_side_px: int | None = None) -> npt.NDArray[np.uint8]:
    """Decode an image, or the first frame of an animation.

    Args:
        source: A file, a member of a shard, or open media. Its content counts, not its name.
        short_side_px: A JPEG may be scaled down by 2, 4 or 8, as long as its short side stays at least this long.

    Returns:
        uint8 [1,Y,X,3], RGB as in `as_rgb`, upright.

    Raises:
        DecodeError: The file is not a readable image; the message names it.
    """
    with open_image(source) as image:
        if short_side_px is not None and image.format in ("JPEG", "MPO"):
            image.draft(None, (short_side_px, short_side_px))
        return np.asarray(upright_rgb(image))[None]


@contextmanager
def open_image(source: AnySource) -> Iterator[Image.Image]:
    """Open an image or animation and read its header.

    Raises:
        DecodeError: Opening fails, or the block does; the message names the file.
    """
    with opened(source) as media, _no_warnings(), _open(media) as image:
        check_frame_size(*image.size)
        if image.info.get("progressive"):
            check_work("scans", media.read_at(0, media.num_bytes).count(b"\xff\xda"), *image.size)
        yield image


def _open(media: OpenMedia) -> Image.Image:
    file = media.buffered_reader()
    head = file.read(HEAD_BYTES)
    if not head:
        raise DecodeError(EMPTY)
    format = image_format(head)
    if format is None:
        container = video_format(head)
        raise DecodeError(f"its content is a video: {container}" if container else "it is not an image")
    name = usual_name(format)
    if format not in _FORMATS:
        raise DecodeError(f"its content is {name}, which is not supported; save it as PNG or JPEG")
    file.seek(0)
    try:
        image = _open_heic(file) if format == "HEIF" else Image.open(file, formats=[format])
    except (UnidentifiedImageError, SyntaxError) as error:
        raise DecodeError(f"its {name} data are damaged or of an unsupported kind") from error
    if format == "PNG":
        scale_key(image)
    if format == "TIFF" and image.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & 1:  # type: ignore[attr-defined]
        raise DecodeError("its first picture is a small preview, as in raw camera files; save it as PNG or JPEG")
    return image


def _open_heic(file: BinaryIO) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise DecodeError('its content is HEIC, which pillow-heif reads; pip install "cover-video[heif]"') from error
    if is_cut_short(file):
        raise DecodeError("it is cut short")
    file.seek(0)
    image: Image.Image = HeifImageFile(file)
    return image


_lock = threading.Lock()
_silenced = ExitStack()
_num_silencing = 0


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Silence Pillow, which warns of oddities in files by the thousand, while any thread is in the block.

    Warning filters belong to the whole process. If each thread restored the filters that it found, the last one might
    restore another thread's.
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


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return the picture as it is shown: in mode RGB, turned and mirrored by its EXIF orientation."""
    image.load()  # a PNG may state its orientation after its pixels, and Pillow turns a TIFF while loading it
    orientation, rgb = _orientation(image), as_rgb(image)
    return rgb.transpose(_TRANSPOSED[orientation]) if orientation in _TRANSPOSED else rgb


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) of the picture as it is shown."""
    if image.format in ("PNG", "TIFF"):
        image.load()
    width_px, height_px = image.size
    return (height_px, width_px) if _orientation(image) >= 5 else (width_px, height_px)


def _orientation(image: Image.Image) -> int:
    """Return the orientation in EXIF or XMP, 1 to 8, or 1 if there is none that can be read.

    HEIC comes upright from its decoder.
    """
    if image.format == "HEIF":
        return 1
    with suppress(Exception):  # broken metadata must not keep a picture from being shown
        value = image.getexif().get(_ORIENTATION, 1)
        number = value[0] if isinstance(value, bytes) else int(value)
        return number if number in _TRANSPOSED else 1
    return 1
