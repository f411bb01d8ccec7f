"""Every kind of pixels that Pillow reads becomes 8-bit RGB with the right values."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from cover.errors import DecodeError
from cover.media.image import decode_image

RED = (200, 30, 30)
RAMP = np.arange(256).reshape(16, 16)


def greys(path: Path) -> list[int]:
    """The greys of an image, in the order of its pixels."""
    frame = decode_image(path)[0]
    assert (frame == frame[..., :1]).all()
    return [int(grey) for grey in frame[..., 0].ravel()]


def write_tiff(
    path: Path,
    pixels: npt.NDArray[Any],
    *,
    num_bits: int | None = None,
    photometric: int = 1,
    sample_format: int = 1,
    extra_samples: int | None = None,
    width_px: int | None = None,
) -> Path:
    """A TIFF of one strip, in the byte order of `pixels` [Y,X] or [Y,X,C]; they may be packed into `width_px`."""
    order = "MM" if pixels.dtype.byteorder == ">" else "II"
    endian = ">" if order == "MM" else "<"
    height_px, num_columns, num_channels = (*pixels.shape, 1)[:3]
    bits = [num_bits or 8 * pixels.dtype.itemsize] * num_channels
    tags: list[tuple[int, str, Sequence[int]]] = [
        (256, "L", [width_px or num_columns]),
        (257, "L", [height_px]),
        (258, "H", bits),
        (259, "H", [1]),
        (262, "H", [photometric]),
        (273, "L", [0]),
        (277, "H", [num_channels]),
        (278, "L", [height_px]),
        (279, "L", [pixels.nbytes]),
        (339, "H", [sample_format] * num_channels),
    ]
    if extra_samples is not None:
        tags.insert(-1, (338, "H", [extra_samples]))
    values = [struct.pack(f"{endian}{len(value)}{code}", *value) for _, code, value in tags]
    place = 8 + 2 + 12 * len(tags) + 4
    start = place + sum(len(value) for value in values if len(value) > 4)
    entries, outside = b"", b""
    for (tag, code, numbers), value in zip(tags, values, strict=True):
        if tag == 273:
            value = struct.pack(f"{endian}L", start)
        elif len(value) > 4:
            outside += value
            value = struct.pack(f"{endian}L", place + len(outside) - len(value))
        entries += struct.pack(f"{endian}HHL", tag, 3 if code == "H" else 4, len(numbers)) + value.ljust(4, b"\0")
    head = order.encode() + struct.pack(f"{endian}HLH", 42, 8, len(tags))
    path.write_bytes(head + entries + bytes(4) + outside + pixels.tobytes())
    return path


def write_png(path: Path, row: bytes, *, num_bits: int, colour_type: int, transparent: bytes) -> Path:
    """A PNG of 8 equal rows with a colour that counts as transparent."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, num_bits, colour_type, 0, 0, 0)) + chunk(b"tRNS", transparent)
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * 8))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b""))
    return path


def test_grey_of_one_eight_and_sixteen_bits(tmp_path: Path) -> None:
    Image.new("1", (8, 8), 1).save(tmp_path / "1.png")
    assert set(greys(tmp_path / "1.png")) == {255}
    Image.fromarray(RAMP.astype(np.uint8)).save(tmp_path / "8.png")
    assert greys(tmp_path / "8.png") == list(range(256))
    sixteen = (RAMP * 256 + 5).astype(np.uint16)
    for name in ("16.png", "16.tif", "16.jp2", "16.pgm"):
        Image.fromarray(sixteen).save(tmp_path / name)
        assert greys(tmp_path / name) == list(range(256))
    for order in "<>":
        assert greys(write_tiff(tmp_path / "raw.tif", sixteen.astype(f"{order}u2"))) == list(range(256))


def test_grey_of_twelve_bits_is_as_bright_as_of_eight(tmp_path: Path) -> None:
    packed = np.tile(np.frombuffer(bytes.fromhex("4d04d0 fff000"), np.uint8), (4, 1))  # 1232, 1232, 4095, 0
    path = write_tiff(tmp_path / "a.tif", packed, num_bits=12, width_px=4)
    assert greys(path) == 4 * [77, 77, 255, 0]


@pytest.mark.parametrize("kind", ["u1", "<u2", "<f4"])
def test_white_may_be_zero(tmp_path: Path, kind: str) -> None:
    scale = {"u1": 1.0, "<u2": 257.0, "<f4": 1 / 255}[kind]
    pixels = (RAMP * scale).astype(kind)
    path = write_tiff(tmp_path / "a.tif", pixels, photometric=0, sample_format=3 if kind == "<f4" else 1)
    assert greys(path) == list(range(255, -1, -1))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 0.25, 0.5, 1], np.float32), [0, 64, 128, 255]),  # a fraction of white
        (np.array([0.2, 0.4], np.float32), [51, 102]),
        (np.array([0, 51, 102, 255], np.float32), [0, 51, 102, 255]),
        (np.array([-10, 0, 10], np.float32), [0, 128, 255]),  # from the smallest to the largest
        (np.array([0, 4000, 20000], np.float32), [0, 51, 255]),
        (np.array([np.nan, 2, 4, np.inf, -np.inf], np.float32), [0, 0, 255, 255, 0]),
        (np.array([np.nan, np.nan], np.float32), [0, 0]),
        (np.array([77, 77], np.float32), [77, 77]),
        (np.array([9e9, 9e9], np.float32), [255, 255]),
        (np.array([0, 77, 255], np.int32), [0, 77, 255]),
        (np.array([0, 13107, 65535], np.int32), [0, 51, 255]),
        (np.array([-(2**31), 0, 2**31 - 1], np.int32), [0, 128, 255]),
        (np.array([0, 1], np.int32), [0, 255]),
        (np.array([77, 77], np.int32), [77, 77]),
        (np.array([-5, -5], np.int32), [0, 0]),
    ],
)
def test_values_without_an_agreed_white_are_shares_of_it_or_stretched(
    tmp_path: Path, values: npt.NDArray[Any], expected: list[int]
) -> None:
    Image.fromarray(values[None]).save(tmp_path / "a.tif")
    assert greys(tmp_path / "a.tif") == expected
    if values.dtype == np.float32:
        Image.fromarray(values[None]).save(tmp_path / "a.pfm")
        assert greys(tmp_path / "a.pfm") == expected


def test_integers_of_32_bits_with_and_without_sign_and_fewer_with_one(tmp_path: Path) -> None:
    ramp = np.array([[0, 2**31, 2**32 - 1]])
    assert greys(write_tiff(tmp_path / "a.tif", ramp.astype("<u4"))) == [0, 128, 255]
    signed = np.array([[-2000, 0, 2000]])
    for kind in ("<i2", ">i2", "<i4", ">i4"):
        assert greys(write_tiff(tmp_path / "a.tif", signed.astype(kind), sample_format=2)) == [0, 128, 255]
    eight_bits = np.array([[-128, -28, 127]], "i1")
    assert greys(write_tiff(tmp_path / "a.tif", eight_bits, sample_format=2)) == [0, 100, 255]
    floats = write_tiff(tmp_path / "a.tif", np.array([[0, 0.5, 1]]).astype(">f4"), sample_format=3)
    assert greys(floats) == [0, 128, 255]


@pytest.mark.parametrize(("kind", "num_channels"), [("<f4", 3), ("<f8", 1), ("<f2", 1)])
def test_floats_that_pillow_does_not_read_are_refused_by_name(tmp_path: Path, kind: str, num_channels: int) -> None:
    pixels = np.zeros((8, 8, num_channels), kind)
    path = write_tiff(tmp_path / "a.tif", pixels, photometric=2 if num_channels == 3 else 1, sample_format=3)
    with pytest.raises(DecodeError, match="its TIFF data are damaged or of an unsupported kind"):
        decode_image(path)


@pytest.mark.parametrize("order", "<>")
def test_colours_of_sixteen_bits(tmp_path: Path, order: str) -> None:
    pixels = np.full((8, 8, 3), np.array(RED) * 257, f"{order}u2")
    assert (decode_image(write_tiff(tmp_path / "a.tif", pixels, photometric=2)) == RED).all()
    row = struct.pack(">3H", *(257 * value for value in RED)) * 8
    key = struct.pack(">3H", 0, 0, 0)
    path = write_png(tmp_path / "a.png", row, num_bits=16, colour_type=2, transparent=key)
    assert (decode_image(path) == RED).all()


def test_a_transparent_grey_of_sixteen_bits_is_white(tmp_path: Path) -> None:
    row = struct.pack(">8H", *[1000] * 4, *[77 * 257] * 4)
    key = struct.pack(">H", 1000)
    path = write_png(tmp_path / "a.png", row, num_bits=16, colour_type=0, transparent=key)
    assert greys(path)[:8] == [255] * 4 + [77] * 4


@pytest.mark.parametrize(("num_bits", "row", "grey"), [(2, b"\x1b\x1b", 85), (4, b"\x5a" * 4, 5 * 17)])
def test_a_transparent_grey_of_few_bits_is_white(tmp_path: Path, num_bits: int, row: bytes, grey: int) -> None:
    def written(key: int) -> list[int]:
        transparent = struct.pack(">H", key)
        return greys(write_png(tmp_path / "a.png", row, num_bits=num_bits, colour_type=0, transparent=transparent))[:8]

    with_none, with_key = written(15), written(grey // (255 // (2**num_bits - 1)))
    assert grey in with_none
    assert with_key == [255 if value == grey else value for value in with_none]


def test_a_transparent_colour_of_sixteen_bits_is_white(tmp_path: Path) -> None:
    row = struct.pack(">3H", 0x1234, 0, 0) * 4 + struct.pack(">3H", *(257 * value for value in RED)) * 4
    key = struct.pack(">3H", 0x1234, 0, 0)
    path = write_png(tmp_path / "a.png", row, num_bits=16, colour_type=2, transparent=key)
    assert decode_image(path)[0, 0].tolist() == [[255] * 3] * 4 + [list(RED)] * 4


def test_transparency_in_every_form_lies_on_white(tmp_path: Path) -> None:
    half = np.rint(255 - (255 - np.array(RED)) * 128 / 255)
    premultiplied = [value * 128 // 255 for value in RED]
    palette = Image.new("RGB", (8, 8), RED).quantize(4)
    palette.save(tmp_path / "palette.png", transparency=bytes([128, 255, 255, 255]))
    for name in ("rgba.png", "rgba.tif", "rgba.webp"):
        options: dict[str, Any] = {"lossless": True, "exact": True} if name.endswith("webp") else {}
        Image.new("RGBA", (8, 8), (*RED, 128)).save(tmp_path / name, **options)
    pixels = np.full((8, 8, 4), [*premultiplied, 128], np.uint8)
    write_tiff(tmp_path / "premultiplied.tif", pixels, photometric=2, extra_samples=1)
    for name in ("palette.png", "rgba.png", "rgba.tif", "rgba.webp", "premultiplied.tif"):
        assert np.abs(decode_image(tmp_path / name) - half).max() <= 2, name
    for name in ("la.png", "la.tif", "la.jp2"):
        Image.new("LA", (8, 8), (77, 128)).save(tmp_path / name)
        assert set(greys(tmp_path / name)) <= {165, 166, 167}
    pixels = np.full((8, 8, 2), [77 * 128 // 255, 128], np.uint8)
    assert set(greys(write_tiff(tmp_path / "a.tif", pixels, extra_samples=1))) <= {165, 166, 167}
    Image.new("RGB", (8, 8), RED).save(tmp_path / "key.png", transparency=RED)
    assert set(greys(tmp_path / "key.png")) == {255}


def test_a_palette_with_an_alpha_channel(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), RED).quantize(4).convert("PA")
    image.putalpha(128)
    image.save(tmp_path / "a.tif")
    half = np.rint(255 - (255 - np.array(RED)) * 128 / 255)
    assert np.abs(decode_image(tmp_path / "a.tif") - half).max() <= 2


def test_colours_for_print_for_television_and_by_perception(tmp_path: Path) -> None:
    for name in ("a.tif", "a.jpg"):
        Image.new("CMYK", (8, 8), (0, 217, 217, 55)).save(tmp_path / name)
        assert np.abs(decode_image(tmp_path / name).astype(int) - RED).max() <= 2
    for compression in (None, "tiff_lzw", "jpeg"):
        Image.new("RGB", (8, 8), RED).convert("YCbCr").save(tmp_path / "a.tif", compression=compression)
        assert np.abs(decode_image(tmp_path / "a.tif").astype(int) - RED).max() <= 4
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.new("RGB", (8, 8), RED), srgb, lab, outputMode="LAB")
    assert image is not None
    image.save(tmp_path / "a.tif")
    assert np.abs(decode_image(tmp_path / "a.tif").astype(int) - RED).max() <= 2
