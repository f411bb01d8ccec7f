"""Whether a JPEG file is a row of pictures: raw Motion JPEG, which has no times.

photo           SOI … EOI                     and perhaps anything behind it: the video of a motion photo
multi-picture   SOI MPF … EOI  SOI … EOI      a photo and its preview, or one for each eye: the first counts
Motion JPEG     SOI … EOI  SOI … EOI  …       frames of one size
"""

from __future__ import annotations

import re
from typing import BinaryIO

_MAX_SEGMENTS = 1000
"""Of a picture; those of a progressive one are about a hundred."""

_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8), 0xFF}
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_END, _SCAN, _APP2 = 0xD9, 0xDA, 0xE2
_NEXT_MARKER = re.compile(rb"\xff[^\0\xd0-\xd7\xff]", re.DOTALL)
_CHUNK_BYTES = 2**16


def is_motion_jpeg(file: BinaryIO) -> bool:
    """Whether another picture of the same size follows the first one directly. file: at any position."""
    file.seek(0)
    size = _pass_picture(file)
    return size is not None and _pass_picture(file) == size


def _pass_picture(file: BinaryIO) -> bytes | None:
    """The height and width of the picture that begins here; None if there is none, or one of a multi-picture file."""
    if file.read(2) != b"\xff\xd8":
        return None
    size = None
    for _ in range(_MAX_SEGMENTS):
        start, code = file.read(2).ljust(2, b"\0")
        if start != 0xFF:
            return None
        if code == _END:
            return size
        if code in _WITHOUT_LENGTH:
            file.seek(-(code == 0xFF), 1)  # which may fill the place before a marker
            continue
        content = file.read(max(int.from_bytes(file.read(2)) - 2, 0))
        if code == _APP2 and content.startswith(b"MPF\0"):
            return None
        if code in _FRAME_HEADERS:
            size = content[1:5]
        elif code == _SCAN:
            _pass_scan(file)
    return None


def _pass_scan(file: BinaryIO) -> None:
    while chunk := file.read(_CHUNK_BYTES):
        if marker := _NEXT_MARKER.search(chunk):
            file.seek(marker.start() - len(chunk), 1)
            return
        if len(chunk) > 1 and chunk.endswith(b"\xff"):
            file.seek(-1, 1)
