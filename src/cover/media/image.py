"""Still images → one frame."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from cover.errors import DecodeError
from cover.media.content import EMPTY, HEAD_BYTES, image_format, usual_name, video_format
from cover.media.failures import check_frame_size, check_work, decoding
from cover.media.heif import is_cut_short
from cover.media.rgb import as_rgb, scale_key
from cover.media.source import MediaInfo, MediaSource

_FORMATS = {"AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"}
"""What is decoded, in Pillow's names. It knows many more, and a damaged file must not wake Ghostscript."""

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
"""What brings a picture upright, by EXIF's orientation."""


def probe_image(source: MediaSource | str | Path) -> MediaInfo:
    """Read the facts about an image from its header.

    Raises:
        DecodeError: The file is no image; the message names it.
    """
    with open_image(MediaSource.of(source)) as image:
        return MediaInfo(1, None, None, *upright_size(image))


def decode_image(source: MediaSource | str | Path, *, short_side_px: int | None = None) -> npt.NDArray[np.uint8]:
    """Decode an image; of an animation, the first frame.

    Args:
        source: A file, or a member of a shard. Its content counts, not its name.
        short_side_px: A JPEG may come scaled down by 2, 4 or 8, as long as its short side is no less than this.

    Returns:
        uint8 [1,Y,X,3], RGB as in `as_rgb`, upright.

    Raises:
        DecodeError: The file gives no image; the message names it.
    """
    with open_image(MediaSource.of(source)) as image:
        if short_side_px is not None and image.format in ("JPEG", "MPO"):
            image.draft(None, (short_side_px, short_side_px))
        return np.asarray(upright_rgb(image))[None]


@contextmanager
def open_image(source: MediaSource) -> Iterator[Image.Image]:
    """Open an image or animation and read its header. What goes wrong here or in the block is a DecodeError."""
    with decoding(source), source.open() as file, _no_warnings(), _open(file) as image:
        check_frame_size(*image.size)
        if image.info.get("progressive"):
            file.seek(0)
            check_work("scans", file.read().count(b"\xff\xda"), *image.size)
        yield image


def _open(file: BinaryIO) -> Image.Image:
    head = file.read(HEAD_BYTES)
    if not head:
        raise DecodeError(EMPTY)
    format = image_format(head)
    if format is None:
        container = video_format(head)
        raise DecodeError(f"its content is a video: {container}" if container else "it is not an image")
    name = usual_name(format)
    if format not in _FORMATS:
        raise DecodeError(f"its content is {name}, which is not read; save it as PNG or JPEG")
    file.seek(0)
    try:
        image = _open_heic(file) if format == "HEIF" else Image.open(file, formats=[format])
    except (UnidentifiedImageError, SyntaxError) as error:
        raise DecodeError(f"its {name} data are damaged, or of a kind that is not read") from error
    if format == "PNG":
        scale_key(image)
    if format == "TIFF" and image.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & 1:  # type: ignore[attr-defined]
        raise DecodeError("its first picture is a small preview, as in raw files of cameras; save it as PNG or JPEG")
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


def upright_rgb(image: Image.Image) -> Image.Image:
    """The picture as it is shown: in mode RGB, turned and mirrored by its EXIF orientation."""
    image.load()  # a PNG may tell its orientation behind its pixels, and Pillow turns a TIFF as it is loaded
    orientation, rgb = _orientation(image), as_rgb(image)
    return rgb.transpose(_TRANSPOSED[orientation]) if orientation in _TRANSPOSED else rgb


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of the picture as it is shown."""
    if image.format in ("PNG", "TIFF"):
        image.load()
    width_px, height_px = image.size
    return (height_px, width_px) if _orientation(image) >= 5 else (width_px, height_px)


def _orientation(image: Image.Image) -> int:
    """EXIF's or XMP's, 1 to 8; 1 where there is none or it cannot be read. HEIC comes upright from its decoder."""
    if image.format == "HEIF":
        return 1
    with suppress(Exception):  # a picture is shown whatever is wrong with the remarks about it
        value = image.getexif().get(_ORIENTATION, 1)
        number = value[0] if isinstance(value, bytes) else int(value)
        return number if number in _TRANSPOSED else 1
    return 1
