"""When the frames of an animation are shown, read from their headers without decoding anything."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import BinaryIO

from cover.errors import DecodeError
from cover.media.heif import avif_delays

MAX_FRAMES = 10_000
"""The most frames of an animation: more than five minutes at 30 frames a second.

Each frame takes about 0.1 ms, however small it is, and reaching one means decoding all frames before it. A file of some
megabytes can contain a million.
"""

MAX_CANVAS_PX = 2**24
"""The most pixels of an animation, twice those of 4K video. A clip holds many frames at once."""


def check_canvas(width_px: int, height_px: int) -> None:
    """Check the size of an animation.

    Raises:
        DecodeError: It has more than MAX_CANVAS_PX pixels.
    """
    if width_px * height_px > MAX_CANVAS_PX:
        raise DecodeError(
            f"its frames have {width_px}×{height_px} pixels; animations may have at most {MAX_CANVAS_PX:,}"
        )


def frame_ends_ms(file: BinaryIO, format: str) -> tuple[int, ...]:
    """Return when each frame stops being shown, in milliseconds from the beginning.

    A still GIF or WebP has one frame. A frame with a delay of at most 10 ms is shown for 100 ms, as in browsers; in
    AVIF, only one without a delay is.

    Args:
        file: At any position; it is read from its beginning.
        format: Pillow's name of the format. Only GIF, WEBP, PNG and AVIF have frames.

    Raises:
        DecodeError: There are more than MAX_FRAMES frames, or they are too large.
    """
    readers = {"GIF": _gif_delays, "WEBP": _webp_delays, "PNG": _apng_delays, "AVIF": avif_delays}
    if format not in readers:
        return ()
    delays = list(islice(readers[format](file), MAX_FRAMES + 1))
    if len(delays) > MAX_FRAMES:
        raise DecodeError(f"it has more than {MAX_FRAMES:,} frames, the most that are decoded")
    shortest = Fraction(0) if format == "AVIF" else Fraction(1, 100)
    end, ends_ms = Fraction(0), []
    for delay in delays:
        end += delay if delay > shortest else Fraction(1, 10)
        ends_ms.append(max(round(1000 * end), 1))
    return tuple(ends_ms)


def _gif_delays(file: BinaryIO) -> Iterator[Fraction]:
    file.seek(0)
    _skip_colours(file, file.read(13)[10:11])
    delay = Fraction(0)
    while block := file.read(1):
        if block == b";":
            _check_end(file, b"GIF8")
            return
        if block == b"!":
            is_control = file.read(1) == b"\xf9"
            first = file.read(int.from_bytes(file.read(1)))
            if is_control and len(first) >= 3:
                delay = Fraction(int.from_bytes(first[1:3], "little"), 100)
            if first:
                _skip_sub_blocks(file)
        elif block == b",":
            place = file.read(9).ljust(9, b"\0")
            left, top, width_px, height_px = struct.unpack("<4H", place[:8])
            check_canvas(left + width_px, top + height_px)  # Pillow enlarges the canvas to hold every frame
            _skip_colours(file, place[8:])
            yield delay
            delay = Fraction(0)
            file.seek(1, 1)
            _skip_sub_blocks(file)


def _check_end(file: BinaryIO, signature: bytes) -> None:
    """Refuse a file with a second animation after the first, which viewers ignore."""
    if file.read(len(signature)) == signature:
        raise DecodeError("another animation follows its end; split the file")


def _skip_colours(file: BinaryIO, flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        file.seek(3 * 2 ** ((flags[0] & 7) + 1), 1)


def _skip_sub_blocks(file: BinaryIO) -> None:
    while (size := file.read(1)) and size != b"\0":
        file.seek(size[0], 1)


def _webp_delays(file: BinaryIO) -> Iterator[Fraction]:
    file.seek(12)
    is_still = True
    while len(header := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", header)
        if name == b"RIFF":  # WebP has no chunk of this name
            file.seek(-len(header), 1)
            _check_end(file, b"RIFF")
        if name == b"ANMF":
            is_still = False
            frame = file.read(16)
            yield Fraction(int.from_bytes(frame[12:15], "little"), 1000)
            size -= len(frame)
        file.seek(size + size % 2, 1)
    if is_still:
        yield Fraction(0)


def _apng_delays(file: BinaryIO) -> Iterator[Fraction]:
    """Yield the delays; none for a still PNG, which has no acTL chunk before its pixels."""
    file.seek(8)
    num_frames = 0
    while len(header := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", header)
        if name == b"IEND":
            file.seek(size + 4, 1)
            _check_end(file, b"\x89PNG")
        if name == b"IEND" or (name == b"IDAT" and not num_frames):
            return
        content = file.read(min(size, 26)) if name in (b"acTL", b"fcTL") else b""
        if name == b"acTL":
            num_frames = int.from_bytes(content[:4])
        elif name == b"fcTL" and num_frames:
            num_frames -= 1
            yield Fraction(int.from_bytes(content[20:22]), int.from_bytes(content[22:24]) or 100)
        file.seek(size - len(content) + 4, 1)
