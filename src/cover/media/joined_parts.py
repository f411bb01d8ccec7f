"""Whether joined files can be decoded as one video.

    file      header 1   packets │ header 2   packets      `cat a.mkv b.mkv`
    FFmpeg    reads              │ skips                   so it decodes the packets of both by header 1

Each part is opened by itself here, and must say the same as the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from typing import NamedTuple

import av
from av.video.stream import VideoStream

from cover.errors import DecodeError
from cover.media.structure import AVI, MATROSKA, ReadAt

_PROBED_BYTES = 2**18
"""How much of a part is opened: its header and the first packets."""

_WITH_OWN_HEADERS = {"av1", "vp8", "vp9"}
"""Codecs whose keyframes say all that a decoder must know, whatever the container's header says."""


class _Format(NamedTuple):
    """What a decoder must know of a video before its first packet. Size and settings are empty where packets tell."""

    codec: str
    size: tuple[int, int] | None = None
    settings: bytes | None = None

    def __str__(self) -> str:
        return self.codec + ("" if self.size is None else " {}×{}".format(*self.size))


def check_alike(read_at: ReadAt, container: str, starts: Sequence[int]) -> None:
    """Raises DecodeError if the parts of a file need different decoders. A part that does not open says nothing.

    Args:
        read_at: (offset, length) → bytes of the file.
        container: FFmpeg's name of it.
        starts: The byte at which each part begins.
    """
    first: list[_Format] = []
    for start, end in pairwise([*starts, starts[-1] + _PROBED_BYTES]):
        formats = _formats(read_at(start, min(end - start, _PROBED_BYTES)), container)
        first = first or formats
        if formats and not set(formats) & set(first):
            raise DecodeError(
                f"it holds several joined files of different codecs, sizes or encoder settings ({first[0]}, then "
                f"{formats[0]}), which cannot be read as one video; split it"
            )


def _formats(part: bytes, container: str) -> list[_Format]:
    """Those of all its videos: a broadcast may hold several."""
    try:
        with av.open(BytesIO(part), "r", metadata_errors="replace") as opened:
            if opened.format.name != container:
                return []
            return [_format(stream, container) for stream in opened.streams.video if stream.codec_context]
    except av.FFmpegError:
        return []


def _format(stream: VideoStream, container: str) -> _Format:
    context = stream.codec_context
    codec = context.codec.canonical_name
    if container not in (AVI, MATROSKA) or codec in _WITH_OWN_HEADERS:
        return _Format(codec)
    return _Format(codec, (context.width, context.height), context.extradata or b"")
