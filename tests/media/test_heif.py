"""HEIC photos are read completely or refused by name; FFmpeg shows one of their tiles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.media.heic_files import TILE_PX, write_heic

from cover.datasets.manifest import ManifestRow
from cover.errors import DecodeError
from cover.inference.views import Views, media_kind
from cover.media.decode import decode_clip, probe_row

COLOURS = {
    "R": (255, 0, 0),
    "G": (0, 255, 0),
    "B": (0, 0, 255),
    "W": (255, 255, 255),
    "K": (0, 0, 0),
    "Y": (255, 255, 0),
}


def write_photo(path: Path, **options: Any) -> ManifestRow:
    """Two rows of three tiles."""
    write_heic(path, [COLOURS[name] for name in "RGBWKY"], 3, **options)
    return ManifestRow("a", str(path), 0)


def tiles(row: ManifestRow) -> list[str]:
    """The colours in the centres of the tiles, a string for each row; a check must state the same size."""
    frame, info = decode_clip(row, "image", 1)[0].astype(int), probe_row(row, "image")
    assert frame.shape == (info.height_px, info.width_px, 3)
    middles = frame[TILE_PX // 2 :: TILE_PX, TILE_PX // 2 :: TILE_PX]
    return [
        "".join(next(name for name, colour in COLOURS.items() if abs(pixel - colour).max() <= 6) for pixel in line)
        for line in middles
    ]


@pytest.mark.parametrize(
    ("quarter_turns", "mirror", "expected"),
    [
        (0, None, ["RGB", "WKY"]),
        (1, None, ["BY", "GK", "RW"]),
        (2, None, ["YKW", "BGR"]),
        (3, None, ["WR", "KG", "YB"]),
        (0, 0, ["WKY", "RGB"]),
        (0, 1, ["BGR", "YKW"]),
        (1, 1, ["RW", "GK", "BY"]),
    ],
)
def test_a_photo_of_tiles_is_read_whole_and_turned_and_mirrored_once(
    tmp_path: Path, quarter_turns: int, mirror: int | None, expected: list[str]
) -> None:
    pytest.importorskip("pillow_heif")
    for name in ("photo.heic", "photo.jpg", "photo.mp4", "photo"):
        row = write_photo(tmp_path / name, quarter_turns=quarter_turns, mirror=mirror)
        assert media_kind(row.file) == "image" and tiles(row) == expected
        with pytest.raises(DecodeError, match=r"\(its content is a still picture: HEIC\)"):
            decode_clip(row, "video", 4)


def test_ten_bits_and_alpha(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    assert tiles(write_photo(tmp_path / "ten.heic", pixel_format="yuv420p10le")) == ["RGB", "WKY"]
    row = ManifestRow("a", str(tmp_path / "a.heic"), 0)
    pillow_heif.from_pillow(Image.new("RGBA", (64, 48), (200, 30, 30, 128))).save(row.file, quality=100, chroma=444)
    half = np.rint(255 - (255 - np.array([200, 30, 30])) * 128 / 255)
    assert np.abs(decode_clip(row, "image", 1) - half).max() <= 3


def test_exif_does_not_turn_a_photo_again_that_its_container_turns(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    image, exif = Image.new("RGB", (64, 48), COLOURS["W"]), Image.Exif()
    image.paste(COLOURS["K"], (0, 0, 32, 48))
    exif[0x0112] = 6
    row = ManifestRow("a", str(tmp_path / "a.heic"), 0)
    pillow_heif.from_pillow(image).save(row.file, exif=exif.tobytes(), quality=100)
    assert b"irot\3" in row.file.read_bytes() and exif.tobytes()[-20:] in row.file.read_bytes()
    frame, info = decode_clip(row, "image", 1)[0].astype(int), probe_row(row, "image")
    assert frame.shape == (64, 48, 3) == (info.height_px, info.width_px, 3)
    assert abs(frame - np.rot90(np.asarray(image), -1)).max() <= 6


def test_a_photo_that_is_cut_short_is_not_shown_with_tiles_missing(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    row = write_photo(tmp_path / "a.heic")
    content = row.file.read_bytes()
    for length in (len(content) - 1, len(content) * 3 // 4, len(content) // 2):
        row.file.write_bytes(content[:length])
        with pytest.raises(DecodeError, match=r"a.heic cannot be decoded \(it is cut short\)"):
            decode_clip(row, "image", 1)


def test_a_huge_photo_is_refused_by_its_header(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    row = write_photo(tmp_path / "a.heic")
    size = (3 * TILE_PX).to_bytes(4) + (2 * TILE_PX).to_bytes(4)
    huge = (100_000).to_bytes(4) * 2
    row.file.write_bytes(row.file.read_bytes().replace(b"ispe" + bytes(4) + size, b"ispe" + bytes(4) + huge))
    with pytest.raises(DecodeError, match="its frames have 100000×100000 pixels"):
        decode_clip(row, "image", 1)


def test_without_pillow_heif_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    row = write_photo(tmp_path / "photo.jpg")
    for read in (
        lambda: decode_clip(row, "image", 1),
        lambda: probe_row(row, "image"),
        lambda: Views(4, 16).read(row.file),
    ):
        with pytest.raises(DecodeError) as caught:
            read()
        assert str(caught.value) == (
            f"{row.path} cannot be decoded (its content is HEIC, which pillow-heif reads; "
            'pip install "cover-video[heif]"); replace the file'
        )


def test_heic_is_read_without_touching_pillows_list_of_formats(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    before = set(Image.OPEN)
    tiles(write_photo(tmp_path / "a.heic"))
    assert set(Image.OPEN) == before
