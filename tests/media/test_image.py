from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cover.errors import DecodeError
from cover.media.image import decode_image

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


def test_grey_of_one_eight_and_sixteen_bits(tmp_path: Path) -> None:
    Image.new("1", (8, 8), 1).save(tmp_path / "1.png")
    Image.new("L", (8, 8), 77).save(tmp_path / "8.png")
    Image.fromarray(np.full((8, 8), 77 * 256 + 5, np.uint16)).save(tmp_path / "16.png")
    assert [int(decode_image(tmp_path / f"{bits}.png").max()) for bits in (1, 8, 16)] == [255, 77, 77]


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert decode_image(tmp_path / "a.png").min() == 255
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "palette.gif")
    assert decode_image(tmp_path / "palette.gif").min() == 255


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(1, 0), (6, -1), (3, 2), (8, 1)])
def test_exif_orientation_is_applied(
    tmp_path: Path, write_image: Callable[..., Path], orientation: int, quarter_turns: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = decode_image(write_image(tmp_path / "plain.jpg", 9, width_px=96, quality=95))
    turned = decode_image(write_image(tmp_path / "turned.jpg", 9, width_px=96, quality=95, exif=exif))
    assert np.array_equal(turned, np.rot90(plain, quarter_turns, axes=(1, 2)))


def test_what_gives_no_image_is_a_decode_error_of_one_line(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    whole = write_image(tmp_path / "whole.jpg", 1, width_px=640, height_px=480).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    reasons = {"cut": "truncated", "empty": "cannot identify", "text": "cannot identify", "nowhere": "is not a file"}
    for name, reason in reasons.items():
        with pytest.raises(DecodeError, match=reason) as caught:
            decode_image(tmp_path / f"{name}.jpg")
        assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)
    with pytest.raises(DecodeError, match=r"bomb.png cannot be decoded \(its frames have 9000×9000 pixels"):
        decode_image(tmp_path / "bomb.png")
