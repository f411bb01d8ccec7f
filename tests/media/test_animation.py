"""Animations as videos, through every format that has them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cover.datasets.manifest import ManifestRow
from cover.errors import DecodeError
from cover.media.content import content_of
from cover.media.decode import decode_clip, probe_row, stream_frames

DrawNumber = Callable[[int, int, int], Any]
NumbersOf = Callable[[Any], list[int]]

EXACT: dict[str, dict[str, Any]] = {
    "a.gif": {},
    "a.webp": {"lossless": True},
    "a.png": {},
    "a.avif": {"quality": 90, "speed": 10},
}


def write_animation(path: Path, draw_number: DrawNumber, delays_ms: Sequence[int], **options: Any) -> ManifestRow:
    images = [Image.fromarray(draw_number(number, 72, 64)) for number in range(len(delays_ms))]
    images[0].save(path, save_all=True, append_images=images[1:], duration=list(delays_ms), **options)
    return ManifestRow(sample_id="a", path=str(path), label=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [*EXACT.items(), ("lossy.webp", {"quality": 60}), ("keyframes.webp", {"kmin": 3, "kmax": 5})],
)
def test_frames_are_found_by_time(
    tmp_path: Path, draw_number: DrawNumber, numbers_of: NumbersOf, name: str, options: dict[str, Any]
) -> None:
    row = write_animation(tmp_path / name, draw_number, [100, 50, 250, 20, 180, 400], **options)
    assert decode_clip(row, "video", 4).shape == (4, 64, 72, 3)
    assert numbers_of(decode_clip(row, "video", 20)) == [0, 0, 1, *[2] * 5, *[4] * 4, *[5] * 8]
    info = probe_row(row, "video")
    assert (info.num_frames, info.fps, info.duration_seconds) == (6, 6.0, 1.0)
    assert (info.width_px, info.height_px) == (72, 64)
    segment = ManifestRow("a", row.path, 0, start_seconds=0.4, end_seconds=1.0)
    assert numbers_of(decode_clip(segment, "video", 3)) == [4, 5, 5]
    assert decode_clip(row, "video", 20, short_side_px=32).shape == (20, 32, 36, 3)
    assert numbers_of(decode_clip(row, "image", 1)) == [0]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_delays_too_short_for_browsers_count_as_they_show_them(
    tmp_path: Path, draw_number: DrawNumber, numbers_of: NumbersOf, name: str
) -> None:
    row = write_animation(tmp_path / name, draw_number, [0, 10, 100, 100], **EXACT[name])
    assert numbers_of(decode_clip(row, "video", 4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", EXACT)
def test_the_frames_at_even_steps_are_those_of_the_same_times(
    tmp_path: Path, draw_number: DrawNumber, numbers_of: NumbersOf, name: str
) -> None:
    row = write_animation(tmp_path / name, draw_number, [100, 50, 250, 20, 180, 400], **EXACT[name])
    stream = stream_frames(row.file, step_seconds=0.05, short_side_px=32)
    assert stream.duration_seconds == 1.0
    assert np.array_equal(list(stream), decode_clip(row, "video", 20, short_side_px=32))
    assert numbers_of(list(stream_frames(row.file, step_seconds=0.3))) == [2, 4, 5]
    assert numbers_of(list(stream_frames(row.file, step_seconds=5.0))) == [5]


def test_segments_and_still_images(tmp_path: Path, draw_number: DrawNumber, numbers_of: NumbersOf) -> None:
    row = write_animation(tmp_path / "a.webp", draw_number, [100] * 10)
    with pytest.raises(DecodeError, match=r"a.webp cannot be decoded \(its segment begins at 1 s, after its end\)"):
        decode_clip(ManifestRow("a", row.path, 0, start_seconds=1.0), "video", 4)
    still = write_animation(tmp_path / "still.webp", draw_number, [0])
    assert numbers_of(decode_clip(still, "video", 3)) == [0, 0, 0]


@pytest.mark.parametrize("name", EXACT)
def test_transparent_parts_are_white(tmp_path: Path, name: str) -> None:
    images = [Image.new("RGBA", (64, 64), (255 * number, 0, 0, 0)) for number in (0, 1)]
    images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=100, **EXACT[name])
    assert decode_clip(ManifestRow("a", str(tmp_path / name), 0), "video", 2).min() >= 254


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_an_animation_is_turned_by_its_exif_orientation(tmp_path: Path, draw_number: DrawNumber, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = decode_clip(write_animation(tmp_path / name, draw_number, [100] * 3, **EXACT[name]), "video", 3)
    row = write_animation(tmp_path / f"turned-{name}", draw_number, [100] * 3, exif=exif, **EXACT[name])
    assert np.array_equal(decode_clip(row, "video", 3), np.rot90(plain, -1, axes=(1, 2)))
    info = probe_row(row, "video")
    assert (info.width_px, info.height_px) == (64, 72)


def test_the_picture_for_other_programs_is_no_frame_of_an_apng(
    tmp_path: Path, draw_number: DrawNumber, numbers_of: NumbersOf
) -> None:
    row = write_animation(tmp_path / "a.png", draw_number, [100] * 4, default_image=True)
    assert numbers_of(decode_clip(row, "video", 3)) == [1, 2, 3]
    assert numbers_of(decode_clip(row, "image", 1)) == [0] and probe_row(row, "video").num_frames == 3


def test_a_gif_that_is_cut_short_repeats_its_last_whole_frame(
    tmp_path: Path, draw_number: DrawNumber, numbers_of: NumbersOf
) -> None:
    row = write_animation(tmp_path / "a.gif", draw_number, [100] * 4)
    content = row.file.read_bytes()
    row.file.write_bytes(content[: content.rindex(b",\0\0\0\0") + 30])  # within the pixels of the last frame
    assert numbers_of(decode_clip(row, "video", 4)) == [0, 1, 2, 2]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_an_animation_behind_another_is_named(tmp_path: Path, draw_number: DrawNumber, name: str) -> None:
    row = write_animation(tmp_path / name, draw_number, [100, 100])
    row.file.write_bytes(2 * row.file.read_bytes())
    with pytest.raises(DecodeError, match="another animation follows its end; split the file"):
        decode_clip(row, "video", 2)


def test_a_damaged_animation_is_a_decode_error(tmp_path: Path, draw_number: DrawNumber) -> None:
    row = write_animation(tmp_path / "a.webp", draw_number, [100] * 10)
    content = row.file.read_bytes()
    for damaged in (content[:12], content[:40], content[: len(content) // 2], content.replace(b"ANMF", b"JUNK")):
        row.file.write_bytes(damaged)
        with pytest.raises(DecodeError, match=r"a.webp cannot be decoded") as caught:
            decode_clip(row, "video", 10)
        assert "\n" not in str(caught.value)


def gif_of(num_frames: int, width_px: int = 1, height_px: int = 1, *, frame_px: tuple[int, int] = (1, 1)) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", width_px, height_px, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"!\xf9\4\4\5\0\0\0," + struct.pack("<HHHHB", 0, 0, *frame_px, 0) + b"\2\2\x44\1\0"
    return head + frame * num_frames + b";"


def webp_of(num_frames: int, width_px: int = 1, height_px: int = 1) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "WEBP", lossless=True)
    frame = bytes(12) + (100).to_bytes(3, "little") + b"\0" + buffer.getvalue()[12:]
    size = (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
    chunks = b"VP8X\x0a\0\0\0\2\0\0\0" + size + b"ANIM\6\0\0\0" + bytes(6)
    chunks += (b"ANMF" + struct.pack("<I", len(frame)) + frame) * num_frames
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def apng_of(num_frames: int, width_px: int = 1, height_px: int = 1) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    def control(number: int, width_px: int, height_px: int) -> bytes:
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width_px, height_px, 0, 0, 1, 10, 0, 0))

    pixel = zlib.compress(bytes(4))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0))
    head += chunk(b"acTL", struct.pack(">II", num_frames, 0)) + control(0, width_px, height_px)
    head += chunk(b"IDAT", zlib.compress(bytes((3 * width_px + 1) * height_px)))
    frames = (
        control(number, 1, 1) + chunk(b"fdAT", struct.pack(">I", number + 1) + pixel)
        for number in range(1, 2 * num_frames - 2, 2)
    )
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(frames) + chunk(b"IEND", b"")


@pytest.mark.parametrize("make", [gif_of, webp_of, apng_of])
def test_the_number_and_the_size_of_frames_are_limited_before_any_is_decoded(
    tmp_path: Path, make: Callable[..., bytes]
) -> None:
    row = ManifestRow("a", str(tmp_path / "a.mp4"), 0)
    row.file.write_bytes(make(10))
    assert len(content_of(row.file).ends_ms) == 10 and decode_clip(row, "video", 4).shape == (4, 1, 1, 3)
    refused = {
        make(10_001): "it has more than 10,000 frames, the most that are decoded",
        make(2, 5000, 4000): "its frames have 5000×4000 pixels; animations may have at most 16,777,216",
        make(600, 2000, 2000): "its 600 frames of 2000×2000 pixels take too long; at most 2,147,483,648 pixels "
        "are decoded",
    }
    for content, reason in refused.items():
        row.file.write_bytes(content)
        for read in (lambda: decode_clip(row, "video", 4), lambda: probe_row(row, "video")):
            with pytest.raises(DecodeError) as caught:
                read()
            assert caught.value.reason == reason


def test_a_frame_beyond_the_canvas_does_not_enlarge_it(tmp_path: Path, draw_number: DrawNumber) -> None:
    row = write_animation(tmp_path / "a.gif", draw_number, [100] * 3)
    row.file.write_bytes(row.file.read_bytes()[:-1] + gif_of(1, frame_px=(300, 300))[19:])
    assert decode_clip(row, "video", 4).shape == (4, 64, 72, 3)
    row.file.write_bytes(row.file.read_bytes()[:-1] + gif_of(1, frame_px=(60_000, 60_000))[19:])
    with pytest.raises(DecodeError, match="its frames have 60000×60000 pixels"):
        decode_clip(row, "video", 4)
