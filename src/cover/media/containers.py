"""The structure of container files, for the cases that FFmpeg silently ignores.

    MP4    ftyp  moov  mdat | ftyp  moov  mdat        `cat a.mp4 b.mp4`: FFmpeg reads only the first file
    ASF    header  data     | header  data            the same
    AVI    RIFF "AVI "      | RIFF "AVI "             FFmpeg reads both, but only the header of the first
    MKV    header 1 packets | header 2 packets        FFmpeg decodes the packets of both by header 1

The last two can be read as one video only if both headers describe the same decoder. A track of an MP4 file may also be
encrypted, or lie in another file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from itertools import pairwise
from typing import Any, NamedTuple

import av
from av.video.stream import VideoStream

from cover.errors import DecodeError

MP4, MATROSKA, ASF, AVI = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "asf", "avi"
"""FFmpeg's names of containers."""

ANY_METADATA: dict[str, Any] = {} if int(av.__version__.split(".")[0]) > 18 else {"metadata_errors": "replace"}
"""Options of `av.open` for files whose metadata are not UTF-8, which PyAV 19 always reads."""

ReadAt = Callable[[int, int], bytes]
"""(offset, length) → bytes of a file, fewer at its end."""

_HEADERS = {MP4: b"moov", ASF: bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), AVI: b"AVI "}
_MAX_PARTS = 2**14
"""The most parts of a file or box that are examined. Most files have fewer than ten, some a few for each second."""

_PARENTS = {b"trak", b"mdia", b"minf", b"dinf", b"stbl"}
_ENCRYPTED = {b"encv", b"drmi"}

_PROBED_BYTES = 2**18
"""How much of a part is opened: its header and the first packets."""

_WITH_OWN_HEADERS = {"av1", "vp8", "vp9"}
"""Codecs whose keyframes contain everything a decoder needs, whatever the container's header says."""


class Part(NamedTuple):
    """A box of MP4, an object of ASF or a chunk of AVI.

    Attributes:
        name: Its type.
        head: The byte at which it begins.
        start: The byte at which its content begins.
        end: The byte after its content.
    """

    name: bytes
    head: int
    start: int
    end: int


def joined_files(read_at: ReadAt, container: str) -> list[int]:
    """Return the bytes at which further files of the same kind begin after the first; for MP4, at most one.

    A fragmented MP4 file may repeat its header, as long as the times of the fragments continue.

    Args:
        read_at: Reads the file.
        container: FFmpeg's name of it.
    """
    header, starts, newest = _HEADERS.get(container), list[int](), -1
    for part in _parts(read_at, container) if header else ():
        if part.name == header:
            starts.append(part.head)
        if part.name == b"moof":
            time = _fragment_time(read_at, part)
            if len(starts) > 1 and time <= newest:
                return starts[1:2]
            newest = max(newest, time)
        elif container == MP4 and len(starts) > 1 and newest < 0:
            return starts[1:]
    return [] if container == MP4 else starts[1:]


def _fragment_time(read_at: ReadAt, moof: Part) -> int:
    """Return when a fragment of an MP4 file begins, in the unit of its first track; 0 if it does not say."""
    for track in _parts(read_at, MP4, moof.start, moof.end):
        for part in _parts(read_at, MP4, track.start, track.end) if track.name == b"traf" else ():
            if part.name == b"tfdt":
                version, *_ = read_at(part.start, 1)
                return int.from_bytes(read_at(part.start + 4, 8 if version else 4))
    return 0


def check_tracks(read_at: ReadAt) -> None:
    """Check that no track of an MP4 file is encrypted or lies in another file.

    Raises:
        DecodeError: There is such a track.
    """
    for part in _parts(read_at, MP4):
        if part.name == b"moov":
            _check_box(read_at, part)


def _check_box(read_at: ReadAt, box: Part) -> None:
    for part in _parts(read_at, MP4, box.start, box.end):
        if part.name in _PARENTS:
            _check_box(read_at, part)
        elif part.name == b"stsd" and any(entry.name in _ENCRYPTED for entry in _entries(read_at, part)):
            raise DecodeError("it is encrypted")
        elif part.name == b"dref":
            for entry in _entries(read_at, part):
                _check_reference(read_at, entry)


def _check_reference(read_at: ReadAt, entry: Part) -> None:
    # The last flag says that the data are in this file. FFmpeg follows aliases even then.
    is_here = read_at(entry.start, 4)[3:] == b"\1" and entry.name != b"alis"
    if entry.end - entry.start > 4 and not is_here:
        raise DecodeError("one of its tracks lies in another file, which is not read")


def _entries(read_at: ReadAt, box: Part) -> Iterator[Part]:
    """Yield the entries of a box that begins with its version, flags and number of entries."""
    return _parts(read_at, MP4, box.start + 8, box.end)


def _parts(read_at: ReadAt, container: str, start: int = 0, end: int = 2**63) -> Iterator[Part]:
    for _ in range(_MAX_PARTS):
        head = read_at(start, 24)
        if start >= end or len(head) < 8:
            return
        name, length, size = _read_head(container, head)
        if size < length:
            return
        yield Part(name, start, start + length, min(start + size, end))
        start += size


def _read_head(container: str, head: bytes) -> tuple[bytes, int, int]:
    """Return the name, the length of the head, and the size of the part that begins with it."""
    if container == MP4:
        size, name = struct.unpack_from(">I4s", head)
        if size == 1 and len(head) >= 16:
            return name, 16, struct.unpack_from(">Q", head, 8)[0]
        return name, 8, size or 2**63  # 0 means up to the end of the file
    if container == AVI:
        size = int.from_bytes(head[4:8], "little")
        return head[8:12], 12, 8 + size + size % 2
    return head[:16], 24, int.from_bytes(head[16:24], "little")


class _Format(NamedTuple):
    """What a decoder must know before the first packet. Size and settings are empty if the packets contain them."""

    codec: str
    size: tuple[int, int] | None = None
    settings: bytes | None = None

    def __str__(self) -> str:
        return self.codec + ("" if self.size is None else " {}×{}".format(*self.size))


def check_alike(read_at: ReadAt, container: str, starts: Sequence[int]) -> None:
    """Check that one decoder can decode all parts of a file. A part that does not open is ignored.

    Args:
        read_at: Reads the file.
        container: FFmpeg's name of it.
        starts: The byte at which each part begins.

    Raises:
        DecodeError: The parts need different decoders.
    """
    first: list[_Format] = []
    for start, end in pairwise([*starts, starts[-1] + _PROBED_BYTES]):
        formats = _formats(read_at(start, min(end - start, _PROBED_BYTES)), container)
        first = first or formats
        if formats and not set(formats) & set(first):
            raise DecodeError(
                f"it consists of joined files with different codecs, sizes or encoder settings ({first[0]}, then "
                f"{formats[0]}), which cannot be read as one video; split it"
            )


def _formats(part: bytes, container: str) -> list[_Format]:
    """Return the formats of all video streams in a part; a broadcast may have several."""
    try:
        with av.open(BytesIO(part), "r", **ANY_METADATA) as opened:
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
