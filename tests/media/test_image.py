from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from cover.errors import DecodeError
from cover.media.image import decode_image, probe_image

RED = (200, 30, 30)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", ".png"), ("RGB", ".jpg"), ("CMYK", ".jpg"), ("P", ".gif"), ("RGBA", ".webp"), ("YCbCr", ".tif")],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    image = Image.new("RGB", (30, 20), RED)
    (image.quantize(8) if mode == "P" else image.convert(mode)).save(tmp_path / f"a{suffix}")
    frames = decode_image(tmp_path / f"a{suffix}")
    assert frames.shape == (1, 20, 30, 3) and frames.dtype == np.uint8
    assert np.abs(frames.astype(int) - RED).max() <= 12


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert decode_image(tmp_path / "a.png").min() == 255
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "palette.gif")
    assert decode_image(tmp_path / "palette.gif").min() == 255


def test_what_gives_no_image_is_a_decode_error_of_one_line(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    whole = write_image(tmp_path / "whole.jpg", 1, width_px=640, height_px=480).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    reasons = {"cut": "truncated", "empty": "it is empty", "text": "it is not an image", "nowhere": "does not exist"}
    for name, reason in reasons.items():
        with pytest.raises(DecodeError, match=reason) as caught:
            decode_image(tmp_path / f"{name}.jpg")
        assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)
    with pytest.raises(DecodeError, match=r"bomb.png cannot be decoded \(its frames have 9000×9000 pixels"):
        decode_image(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    ("mode", "colour", "options"),
    [
        ("RGB", RED, {"progressive": True, "subsampling": 0}),
        ("RGB", RED, {"subsampling": 2, "optimize": True, "restart_marker_rows": 1}),
        ("L", 77, {"progressive": True}),
        ("CMYK", (0, 217, 217, 55), {"progressive": True}),
    ],
)
@pytest.mark.parametrize("short_side_px", [None, 240, 150, 100, 31, 1])
def test_jpegs_come_smaller_but_never_below_the_side_that_is_needed(
    tmp_path: Path, mode: str, colour: Any, options: dict[str, Any], short_side_px: int | None
) -> None:
    Image.new(mode, (333, 240), colour).save(tmp_path / "a.jpg", quality=95, **options)
    frames = decode_image(tmp_path / "a.jpg", short_side_px=short_side_px)
    shrinking = {None: 1, 240: 1, 150: 1, 100: 2, 31: 4, 1: 8}[short_side_px]
    assert frames.shape == (1, 240 // shrinking, -(-333 // shrinking), 3)
    expected = (77, 77, 77) if mode == "L" else RED
    assert np.abs(frames.astype(int) - expected).max() <= 12


def test_a_smaller_jpeg_shows_the_same_and_stays_upright(
    tmp_path: Path, write_image: Callable[..., Path], numbers_of: Callable[[Any], list[int]]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = write_image(tmp_path / "a.jpg", 21845, width_px=640, height_px=480, exif=exif)
    frames = decode_image(image, short_side_px=100)
    assert frames.shape == (1, 160, 120, 3)
    assert numbers_of(np.rot90(frames, 1, axes=(1, 2))) == [21845]


def test_alpha_in_every_form_and_16_bits_a_channel(tmp_path: Path) -> None:
    half = (255 - (255 - np.array(RED)) * 128 / 255).round()
    Image.new("RGBA", (8, 8), (*RED, 128)).save(tmp_path / "rgba.png")
    Image.new("RGBA", (8, 8), (*RED, 128)).save(tmp_path / "rgba.webp", lossless=True, exact=True)
    Image.new("LA", (8, 8), (0, 0)).save(tmp_path / "la.png")
    palette = Image.new("RGB", (8, 8), RED).quantize(4)
    palette.save(tmp_path / "bytes.png", transparency=bytes([128, 255, 255, 255]))
    Image.new("RGB", (8, 8), RED).save(tmp_path / "key.png", transparency=RED)
    for name in ("rgba.png", "rgba.webp", "bytes.png"):
        assert np.abs(decode_image(tmp_path / name).astype(float) - half).max() <= 2
    for name in ("la.png", "key.png"):
        assert decode_image(tmp_path / name).min() == 255
    frame = av.VideoFrame.from_ndarray(np.full((8, 8, 3), np.array(RED, np.uint16) * 257), format="rgb48le")
    with av.open(str(tmp_path / "48.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 8, 8, "rgb48be"
        container.mux(stream.encode(frame))
    assert np.abs(decode_image(tmp_path / "48.png").astype(int) - RED).max() <= 1


@pytest.mark.parametrize(("width_px", "height_px"), [(8193, 8192), (14000, 7000), (60000, 60000)])
def test_decompression_bombs_are_refused_by_their_header(tmp_path: Path, width_px: int, height_px: int) -> None:
    Image.new("1", (8, 8)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", width_px, height_px)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    for read in (decode_image, probe_image):
        with pytest.raises(DecodeError, match=r"a.png cannot be decoded \(.*(pixels)"):
            read(tmp_path / "a.png")


def test_a_progressive_jpeg_of_ten_thousand_scans_is_refused(tmp_path: Path) -> None:
    Image.new("L", (2000, 2000), 77).save(tmp_path / "a.jpg", progressive=True)
    assert decode_image(tmp_path / "a.jpg").max() == 77
    content = (tmp_path / "a.jpg").read_bytes()
    scan = content[content.rindex(b"\xff\xda") : -2]
    (tmp_path / "a.jpg").write_bytes(content[:-2] + 10_000 * scan + content[-2:])
    for read in (decode_image, probe_image):
        with pytest.raises(DecodeError, match=r"its 10,00\d scans of 2000×2000 pixels take too long"):
            read(tmp_path / "a.jpg")


def test_tags_and_texts_that_claim_gigabytes_take_no_memory(tmp_path: Path) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000), 9))
    (tmp_path / "a.png").write_bytes(content[:33] + text + content[33:])
    with pytest.raises(DecodeError, match="too large"):
        decode_image(tmp_path / "a.png")
    tags = b"".join(struct.pack("<HHII", 1000 + number, 1, 1_000_000, 8) for number in range(10_000))
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 10_000) + tags + bytes(1_000_000)
    Image.new("L", (8, 8)).save(tmp_path / "a.webp", exif=exif)
    tracemalloc.start()
    try:
        assert decode_image(tmp_path / "a.webp").shape == (1, 8, 8, 3)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_only_formats_of_datasets_are_decoded(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    with pytest.raises(DecodeError, match=r"a.jpg cannot be decoded \(it is not an image\)"):
        decode_image(tmp_path / "a.jpg")
