from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cover.catalog.manifest import ManifestRow
from cover.errors import DecodeError
from cover.media.decode import decode_clip, probe_row

DrawNumber = Callable[[int, int, int], Any]
NumbersOf = Callable[[Any], list[int]]


def write_webp(path: Path, draw_number: DrawNumber, delays_ms: Sequence[int], **options: Any) -> ManifestRow:
    images = [Image.fromarray(draw_number(number, 72, 64)) for number in range(len(delays_ms))]
    images[0].save(path, save_all=True, append_images=images[1:], duration=list(delays_ms), **options)
    return ManifestRow(sample_id="a", path=str(path), label=0)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 60}, {"kmin": 3, "kmax": 5}])
def test_animations_are_videos_whose_frames_are_found_by_time(
    tmp_path: Path, draw_number: DrawNumber, numbers_of: NumbersOf, options: dict[str, Any]
) -> None:
    row = write_webp(tmp_path / "a.webp", draw_number, [100, 50, 250, 20, 180, 400], **options)
    assert decode_clip(row, "video", 4).shape == (4, 64, 72, 3)
    assert numbers_of(decode_clip(row, "video", 20)) == [0, 0, 1, *[2] * 5, *[4] * 4, *[5] * 8]
    info = probe_row(row, "video")
    assert (info.num_frames, info.fps, info.duration_seconds) == (6, 6.0, 1.0)
    assert (info.width_px, info.height_px) == (72, 64)


def test_delays_too_short_for_browsers_count_as_they_show_them(
    tmp_path: Path, draw_number: DrawNumber, numbers_of: NumbersOf
) -> None:
    row = write_webp(tmp_path / "a.webp", draw_number, [0, 10, 100, 100])
    assert numbers_of(decode_clip(row, "video", 4)) == [0, 1, 2, 3]


def test_segments_and_still_images(tmp_path: Path, draw_number: DrawNumber, numbers_of: NumbersOf) -> None:
    row = write_webp(tmp_path / "a.webp", draw_number, [100] * 10)
    segment = ManifestRow("a", row.path, 0, start_seconds=0.4, end_seconds=0.8)
    assert numbers_of(decode_clip(segment, "video", 4)) == [4, 5, 6, 7]
    with pytest.raises(DecodeError, match=r"a.webp cannot be decoded \(its segment begins at 1 s, after its end\)"):
        decode_clip(ManifestRow("a", row.path, 0, start_seconds=1.0), "video", 4)
    still = write_webp(tmp_path / "still.webp", draw_number, [0])
    assert numbers_of(decode_clip(still, "video", 3)) == [0, 0, 0]
    assert numbers_of(decode_clip(row, "image", 1)) == [0]


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    images = [Image.new("RGBA", (16, 16), (255 * number, 0, 0, 0)) for number in (0, 1)]
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:], duration=100, lossless=True)
    assert (decode_clip(ManifestRow("a", str(tmp_path / "a.webp"), 0), "video", 2) == 255).all()


def test_a_damaged_animation_is_a_decode_error(tmp_path: Path, draw_number: DrawNumber) -> None:
    row = write_webp(tmp_path / "a.webp", draw_number, [100] * 10)
    content = row.file.read_bytes()
    for damaged in (content[:40], content[: len(content) // 2], content.replace(b"ANMF", b"JUNK")):
        row.file.write_bytes(damaged)
        with pytest.raises(DecodeError, match=r"a.webp cannot be decoded") as caught:
            np.asarray(decode_clip(row, "video", 10))
        assert "\n" not in str(caught.value)
