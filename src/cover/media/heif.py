"""HEIF files (HEIC photos, AVIF and others), which consist of boxes as MP4 does.

ftyp    brands, which say what the file is for; the first is the main one
meta    stored pictures, and the tiles of a large photo
moov    tracks, as in MP4: the frames of an animation
mdat    the compressed data of both
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from io import SEEK_END
from itertools import repeat
from typing import BinaryIO

_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_ANY_CODEC = {b"mif1", b"mif2", b"msf1"}
_SEQUENCES = {b"avis", b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"}

_MAX_BOXES = 1000
"""The most boxes on one level that are examined. Files have a few; a hostile file may have millions of empty ones."""


def heif_format(head: bytes) -> str | None:
    """Return Pillow's name of a HEIF file, "AVIF" or "HEIF", or None if its brands are not of pictures.

    Args:
        head: The first bytes of the file.
    """
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4]), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}
    if brands & _AVIF and not brands & _HEIC:
        return "AVIF"
    return "HEIF" if brands & (_HEIC | _ANY_CODEC) else None


def is_track_file(file: BinaryIO) -> bool:
    """Whether a HEIF file is meant as a video, which FFmpeg plays, and not as pictures.

    Animated AVIF is not, because Pillow plays it with transparency.
    """
    file.seek(8)
    brand = file.read(4)
    is_picture = brand in (_AVIF | _HEIC | _ANY_CODEC) - _SEQUENCES
    return not is_picture and brand != b"avis" and _read_moov(file) is not None


def avif_delays(file: BinaryIO) -> Iterator[Fraction]:
    """Yield how many seconds each frame of an animated AVIF is shown; nothing for a still one."""
    file.seek(8)
    moov = _read_moov(file) if file.read(4) == b"avis" else None
    for name, trak in _boxes(moov or b""):
        # Transparency is a track of its own, whose handler is "auxv".
        if name == b"trak" and _inside(trak, b"mdia", b"hdlr")[8:12] == b"pict":
            header = _inside(trak, b"mdia", b"mdhd")
            unit = int.from_bytes(header[20:24] if header[:1] == b"\1" else header[12:16])
            times = _inside(trak, b"mdia", b"minf", b"stbl", b"stts")[8:]
            for count, delta in struct.iter_unpack(">II", times[: len(times) // 8 * 8]):
                yield from repeat(Fraction(delta, unit or 1), count)
            return


def is_cut_short(file: BinaryIO) -> bool:
    """Whether the file ends within a box.

    libheif would show the tiles that are there, and green ones instead of the rest.
    """
    length = file.seek(0, SEEK_END)
    return any(end > length for _, _, end in _top_level(file))


def _read_moov(file: BinaryIO) -> bytes | None:
    for name, start, end in _top_level(file):
        if name == b"moov":
            file.seek(start)
            return file.read(end - start)
    return None


def _top_level(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each box of a file, and where its content begins and ends.

    The last box may claim more bytes than there are.
    """
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        header = file.read(16)
        is_long = header[:4] == b"\0\0\0\1"
        size = int.from_bytes(header[8:16] if is_long else header[:4])
        if size < 8:  # the end of the file, or a final box of unknown size
            return
        yield header[4:8], position + (16 if is_long else 8), position + size
        position += size


def _inside(content: bytes, *path: bytes) -> bytes:
    """Return the content of a box within boxes, or nothing if there is none."""
    for wanted in path:
        content = next((inner for name, inner in _boxes(content) if name == wanted), b"")
    return content


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    for _ in range(_MAX_BOXES):
        size = int.from_bytes(content[position : position + 4])
        if size < 8:
            return
        yield content[position + 4 : position + 8], content[position + 8 : position + size]
        position += size
