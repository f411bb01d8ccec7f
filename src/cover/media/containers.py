"""How a file is put together, where FFmpeg passes over that without a word.

    MP4    ftyp  moov  mdat | ftyp  moov  mdat        `cat a.mp4 b.mp4`: FFmpeg reads only the first file
    ASF    header  data     | header  data            the same
    AVI    RIFF "AVI "      | RIFF "AVI "             FFmpeg reads both, but only the header of the first

A track of an MP4 file can also lie in another file, which the header names, or be encrypted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from itertools import pairwise
from typing import NamedTuple

import av
from av.video.stream import VideoStream

from cover.errors import DecodeError

MP4, MATROSKA, ASF, AVI = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "asf", "avi"
"""FFmpeg's names of containers."""

ReadAt = Callable[[int, int], bytes]
"""(offset, length) → bytes of a file, fewer at its end."""

_HEADERS = {MP4: b"moov", ASF: bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), AVI: b"AVI "}
_MAX_PARTS = 2**14
"""How many parts of a file or box are looked at. Most files have fewer than ten, some a few for each second."""

_PARENTS = {b"trak", b"mdia", b"minf", b"dinf", b"stbl"}
_ENCRYPTED = {b"encv", b"drmi"}

_PROBED_BYTES = 2**18
"""How much of a part is opened: its header and the first packets."""

_WITH_OWN_HEADERS = {"av1", "vp8", "vp9"}
"""Codecs whose keyframes say all that a decoder must know, whatever the container's header says."""


class Part(NamedTuple):
    """A box of MP4, an object of ASF or a chunk of AVI: its name, where it begins, where its content does and ends."""

    name: bytes
    head: int
    start: int
    end: int


def joined_files(read_at: ReadAt, container: str) -> list[int]:
    """The bytes at which the files of the same kind begin that follow the first; of MP4, at most one.

    An MP4 file in fragments may repeat its header, as long as the times of the fragments go on.
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
    """When a fragment of an MP4 file begins, in the unit of its first track; 0 where it does not say."""
    for track in _parts(read_at, MP4, moof.start, moof.end):
        for part in _parts(read_at, MP4, track.start, track.end) if track.name == b"traf" else ():
            if part.name == b"tfdt":
                version, *_ = read_at(part.start, 1)
                return int.from_bytes(read_at(part.start + 4, 8 if version else 4))
    return 0


def check_tracks(read_at: ReadAt) -> None:
    """Raises DecodeError for an MP4 file with a track that is encrypted or lies in another file."""
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
    # The last flag says that the data is in this file. FFmpeg follows aliases in spite of it.
    is_here = read_at(entry.start, 4)[3:] == b"\1" and entry.name != b"alis"
    if entry.end - entry.start > 4 and not is_here:
        raise DecodeError("a track of it lies in another file; only what is in the file itself is read")


def _entries(read_at: ReadAt, box: Part) -> Iterator[Part]:
    """Of a box that begins with its version, its flags and the number of its entries."""
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
    """Name, length of the head and size of the part that begins with it."""
    if container == MP4:
        size, name = struct.unpack_from(">I4s", head)
        if size == 1 and len(head) >= 16:
            return name, 16, struct.unpack_from(">Q", head, 8)[0]
        return name, 8, size or 2**63  # 0: up to the end
    if container == AVI:
        size = int.from_bytes(head[4:8], "little")
        return head[8:12], 12, 8 + size + size % 2
    return head[:16], 24, int.from_bytes(head[16:24], "little")


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
