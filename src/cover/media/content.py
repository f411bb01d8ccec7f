"""What a file contains, judged by its first bytes and never by its name. Every command asks this module.

    image        one picture: JPEG, PNG, HEIC, …        read by image.py
    animation    a sequence: GIF, WebP, APNG, AVIF      read by animation.py
    video        anything else that FFmpeg may know     read by video.py

A video dataset accepts videos and animations, and also a GIF or WebP with a single frame. It refuses any other picture:
FFmpeg would show a photo as a video of one frame, and only the top left tile of a HEIC photo. An image dataset accepts
images and the first frame of animations, and refuses videos.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal

from cover.datasets.names import Kind
from cover.errors import DecodeError
from cover.media.failures import opened
from cover.media.frame_ends import frame_ends_ms
from cover.media.heif import heif_format, is_track_file
from cover.media.source import AnySource

EMPTY = "it is empty"
HEAD_BYTES = 512
"""More than the longest signature, and than the list of brands at the beginning of an MP4 or HEIC file."""

_IMAGES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF....WEBP",
    "TIFF": rb"II[*+]\0|MM\0[*+]|II\0\*|MM\*\0",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "JPEG2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "PPM": rb"P([1-6f]|0CMYK)\s",
    # The following are not read; FFmpeg would take them for videos.
    "JPEG XL": rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a",
    "Photoshop": rb"8BPS\0",
    "Canon raw": rb"....ftypcrx ",
    "ICO": rb"\0\0\x01\0[^\0]\0...\0",
    "ICNS": rb"icns",
}
_VIDEOS = {
    "MP4 or QuickTime": rb"....(ftyp|moov|mdat|wide|free|skip|pnot)",
    "Matroska or WebM": rb"\x1aE\xdf\xa3",
    "AVI": rb"RIFF....AVI ",
    "FLV": rb"FLV\x01",
    "Ogg": rb"OggS",
    "Windows Media": rb"0&\xb2u\x8ef\xcf\x11",
    "MPEG": rb"\0\0\x01[\xb3\xba]|G.{187}G|....G.{191}G",
}
_MAY_MOVE = {"AVIF", "GIF", "HEIF", "JPEG", "PNG", "WEBP"}
_USUAL_NAMES = {"HEIF": "HEIC", "JPEG2000": "JPEG 2000", "WEBP": "WebP"}

_MAX_SEGMENTS = 1000
"""The most segments of a picture; a progressive one has about a hundred."""

_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8), 0xFF}

_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}

_END, _SCAN, _APP2 = 0xD9, 0xDA, 0xE2

_NEXT_MARKER = re.compile(rb"\xff[^\0\xd0-\xd7\xff]", re.DOTALL)

_CHUNK_BYTES = 2**16

_STEP_BYTES = 2**12
"""How much is read at a time where headers of frames are looked for among pictures that are not needed."""


@dataclass(frozen=True)
class Content:
    """What a file is.

    Attributes:
        type: One of the three in the module's docstring.
        format: For a picture, Pillow's name of the format; for a video, the container, or "" if only FFmpeg can tell.
        ends_ms: When each frame of an animation, or of a GIF or WebP with a single frame, stops being shown, in
            milliseconds.
    """

    type: Literal["image", "animation", "video"]
    format: str
    ends_ms: tuple[int, ...] = ()

    @property
    def kind(self) -> Kind:
        """What a model is shown, if no dataset decides that: "image" or "video"."""
        return "image" if self.type == "image" else "video"

    @property
    def name(self) -> str:
        """The usual name of the format."""
        return usual_name(self.format)


def content_of(source: AnySource) -> Content:
    """Find out what a file, or a member of a shard, contains.

    Raises:
        DecodeError: It is missing or empty, raw Motion JPEG, or an animation with too many frames.
    """
    with opened(source) as media:
        head = media.read_at(0, HEAD_BYTES)
        if not head:
            raise DecodeError(EMPTY)
        format = image_format(head)
        if format is None:
            return Content("video", video_format(head) or "")
        if format not in _MAY_MOVE:
            return Content("image", format)
        return _judge_frames(format, media.buffered_reader(_STEP_BYTES))


def _judge_frames(format: str, file: BinaryIO) -> Content:
    if format in ("AVIF", "HEIF") and is_track_file(file):
        return Content("video", "MP4 or QuickTime")
    if format == "JPEG" and is_motion_jpeg(file):
        raise DecodeError("it is raw Motion JPEG, pictures without times; convert it to MP4 or AVI")
    ends_ms = frame_ends_ms(file, format)
    return Content("animation" if len(ends_ms) > 1 else "image", format, ends_ms)


def usual_name(format: str) -> str:
    """Return what people call a format of Pillow's."""
    return _USUAL_NAMES.get(format, format)


def image_format(head: bytes) -> str | None:
    """Return the format of a picture or animation by the first bytes of its file, or None if it is neither."""
    return _matching(_IMAGES, head) or heif_format(head)


def video_format(head: bytes) -> str | None:
    """Return the container of a video by the first bytes of its file, or None if they do not tell."""
    return _matching(_VIDEOS, head)


def _matching(signatures: Mapping[str, bytes], head: bytes) -> str | None:
    return next((name for name, pattern in signatures.items() if re.match(pattern, head, re.DOTALL)), None)


def is_motion_jpeg(file: BinaryIO) -> bool:
    """Whether a JPEG file is raw Motion JPEG, which has no times.

    It is if another picture of the same size directly follows the first one.

    photo           SOI … EOI                     possibly followed by other data: the video of a motion photo
    multi-picture   SOI MPF … EOI  SOI … EOI      a photo and its preview, or one for each eye: the first counts
    Motion JPEG     SOI … EOI  SOI … EOI  …       frames of one size

    Args:
        file: At any position.
    """
    file.seek(0)
    size = _pass_picture(file)
    return size is not None and _pass_picture(file) == size


def _pass_picture(file: BinaryIO) -> bytes | None:
    """Skip the picture that begins here, and return its height and width.

    Returns None if there is no picture or it belongs to a multi-picture file.
    """
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
            file.seek(-(code == 0xFF), 1)  # 0xFF may be padding before a marker
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
