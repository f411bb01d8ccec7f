"""A picture with a valid orientation is shown upright; broken metadata do not keep it from being shown."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cover.media.image import decode_image, probe_image

DrawNumber = Callable[[int, int, int], npt.NDArray[np.uint8]]

NUMBER = 21845
SHORT, ASCII, BYTE, LONG, RATIONAL, UNDEFINED, SIGNED_RATIONAL = 3, 2, 1, 4, 5, 7, 10

UPRIGHT: dict[int, Callable[[Any], Any]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}
"""What a viewer shows of the stored pixels [Y,X,3] at each EXIF orientation."""

FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 100},
}


def ifd(*entries: tuple[int, int, int, bytes], outside: bytes = b"") -> bytes:
    """EXIF of (tag, type, count, value or offset); data outside of the entries follow them."""
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + bytes(4) + outside


def place(num_entries: int) -> bytes:
    """Where the data outside of the entries begin."""
    return struct.pack("<I", 8 + 2 + 12 * num_entries + 4)


def jpeg(draw_number: DrawNumber, exif: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw_number(NUMBER, 64, 48)).save(buffer, "JPEG", quality=95)
    content = buffer.getvalue()
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif + content[2:]


def assert_shown(path: Path, expected: npt.NDArray[np.uint8]) -> None:
    """The picture is decoded like this, and a check states the same size."""
    frame, info = decode_image(path)[0], probe_image(path)
    assert frame.shape == expected.shape == (info.height_px, info.width_px, 3)
    assert np.abs(frame.astype(int) - expected).max() <= 40


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("format", FORMATS)
def test_all_eight_orientations_in_every_format(
    tmp_path: Path, draw_number: DrawNumber, format: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = draw_number(NUMBER, 64, 48)
    Image.fromarray(stored).save(tmp_path / "a", format, exif=exif, **FORMATS[format])
    assert_shown(tmp_path / "a", UPRIGHT[orientation](stored))


TURN = (0x0112, SHORT, 1, b"\6\0")


@pytest.mark.parametrize(
    ("orientation", "exif"),
    [
        (6, ifd(TURN)),
        (6, b"Exif\0\0" + ifd(TURN)),
        (1, b"\xde\xad\xbe\xef" * 8),
        (1, b""),
        (1, b"II*\0"),
        (1, ifd(TURN)[:18]),
        (6, ifd(TURN, (0x9204, SIGNED_RATIONAL, 1, place(2)), outside=struct.pack("<ii", -1, 0))),
        (6, ifd(TURN, (0x829D, RATIONAL, 1, place(2)), outside=struct.pack("<II", 1, 0))),
        (6, ifd(TURN, (0x011A, RATIONAL, 2, place(2)), outside=struct.pack("<IIII", 72, 1, 72, 1))),
        (6, ifd(TURN, (0x010F, ASCII, 400, struct.pack("<I", 9999)))),
        (6, ifd(TURN, (0x8769, LONG, 1, b"\x08"))),
        (6, ifd(TURN, (0x8825, ASCII, 4, b"abc"))),
        (6, ifd(TURN, (0x927C, UNDEFINED, 100_000, place(2)))),
        (6, ifd(TURN, (0x927C, UNDEFINED, 2**32 - 1, b"\xff\xff\xff\xff"))),
        (6, ifd((0x0112, SHORT, 2, b"\6\0\6\0"))),
        (6, ifd((0x0112, ASCII, 2, b"6\0"))),
        (6, ifd((0x0112, BYTE, 1, b"\6"))),
        (6, ifd((0x0112, LONG, 1, b"\6"))),
        (6, ifd((0x0112, RATIONAL, 1, place(1)), outside=struct.pack("<II", 6, 1))),
        (1, ifd((0x0112, RATIONAL, 1, place(1)), outside=struct.pack("<II", 6, 0))),
        (1, ifd((0x0112, SIGNED_RATIONAL, 1, place(1)), outside=struct.pack("<ii", -1, 0))),
        (1, ifd((0x0112, ASCII, 12, place(1)), outside=b"right-top\0\0\0")),
        (1, ifd((0x0112, SHORT, 1, b"\0\0"))),
        (1, ifd((0x0112, SHORT, 1, b"\x63\0"))),
        (1, ifd((0x0112, SHORT, 0, b"\6\0"))),
        (1, ifd((0x0112, LONG, 1, b"\xff\xff\xff\xff"))),
    ],
)
def test_what_is_wrong_with_exif_does_not_hide_the_picture(
    tmp_path: Path, draw_number: DrawNumber, orientation: int, exif: bytes
) -> None:
    expected = UPRIGHT[orientation](draw_number(NUMBER, 64, 48))
    (tmp_path / "a.jpg").write_bytes(jpeg(draw_number, exif))
    assert_shown(tmp_path / "a.jpg", expected)
    for format in ("PNG", "WEBP"):
        Image.fromarray(draw_number(NUMBER, 64, 48)).save(tmp_path / "a", format, exif=exif, **FORMATS[format])
        assert_shown(tmp_path / "a", expected)


@pytest.mark.parametrize("value", ['tiff:Orientation="6"', "<tiff:Orientation>6</tiff:Orientation>"])
def test_xmp_tells_the_orientation_where_exif_does_not(tmp_path: Path, draw_number: DrawNumber, value: str) -> None:
    stored = draw_number(NUMBER, 64, 48)
    xmp = f"<x {value}>".encode()
    for format in ("JPEG", "WEBP", "TIFF"):
        options = {"tiffinfo": {700: xmp}} if format == "TIFF" else {"xmp": xmp}
        Image.fromarray(stored).save(tmp_path / "a", format, **options, **FORMATS[format])
        assert_shown(tmp_path / "a", UPRIGHT[6](stored))


def test_a_png_may_tell_its_orientation_behind_its_pixels(tmp_path: Path, draw_number: DrawNumber) -> None:
    stored = draw_number(NUMBER, 64, 48)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=ifd(TURN))
    content = (tmp_path / "a.png").read_bytes()
    start, end = content.index(b"eXIf") - 4, content.index(b"IDAT") - 4
    moved = content[:start] + content[end:-12] + content[start:end] + content[-12:]
    (tmp_path / "a.png").write_bytes(moved)
    assert_shown(tmp_path / "a.png", UPRIGHT[6](stored))


def test_a_smaller_jpeg_stays_upright(
    tmp_path: Path, draw_number: DrawNumber, numbers_of: Callable[[Any], Sequence[int]]
) -> None:
    Image.fromarray(draw_number(NUMBER, 640, 480)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + ifd(TURN))
    frames = decode_image(tmp_path / "a.jpg", short_side_px=100)
    assert frames.shape == (1, 160, 120, 3) and numbers_of(np.rot90(frames, 1, axes=(1, 2))) == [NUMBER]
