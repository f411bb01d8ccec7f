"""One timeline for a video whose timestamps begin anew on the way.

    packets of two joined files    0   1   2   3 | 0   1   2   3
    shown at                       0   1   2   3   4   5   6   7

People and recorders join files byte by byte (`cat a.ts b.ts`), and the clocks of broadcasts run over every 26 hours.
Players show frame after frame, and so do we.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from heapq import heappush, heappushpop
from typing import cast

import av
from av.format import Flags
from av.packet import Packet
from av.video.stream import VideoStream

from cover.errors import DecodeError
from cover.media.containers import AVI, MATROSKA, check_alike
from cover.media.demux import MAX_FRAMES, OpenVideo

MAX_REORDERED = 16
"""The most frames that H.264 and HEVC allow to be decoded before one that is shown before them."""

_MAX_PAUSE_SECONDS = 10
"""In broadcast formats, a longer pause is a jump of the clock, as FFmpeg's own tools take it. In other formats a frame
may be shown for as long as the file says: a slide of a lecture, for example."""

_CLOCK_JUMPS = cast("int", Flags.ts_discont.value)
"""FFmpeg's mark of such formats: MPEG-TS and -PS, and Ogg."""

_LOOSE = {"flv", "mpegts"}
"""Formats in which FFmpeg may pass over a second file that follows the first: it starts streams of its own."""

_OGG = "ogg"
_HEADERS = {"mpegts": b"G@\0", _OGG: b"OggS\0\2", MATROSKA: b"\x1aE\xdf\xa3"}
"""What a part begins with, between the last packet before and its first one. Other formats need no header."""

_OGG_HEADER, _THEORA_REMARKS = re.compile(rb"[\x80-\x82]theora|OVP80", re.DOTALL), 0x81

_MAX_HEADER_BYTES = 2**26
"""Of the index at the end of a part, the header of the next and what is attached to it, such as fonts."""


class DiscontinuityDetector:
    """Takes the packets of a video in decoding order, and tells where its timestamps begin anew.

    end_pts: when the last frame so far ceases to be shown.
    """

    def __init__(self, video: OpenVideo) -> None:
        self._max_pause = _MAX_PAUSE_SECONDS / video.time_base if video.container.format.flags & _CLOCK_JUMPS else None
        self._is_counted = video.container_name == AVI  # without times of showing; FFmpeg counts on by itself
        self._newest: list[int] = []  # a heap of the latest times
        self._last_pts = 0
        self._is_after_keyframe = False
        self.end_pts = 0

    def breaks_at(self, packet: Packet[VideoStream]) -> bool:
        """Whether `packet` does not belong to the timeline of those before it."""
        pts = packet.pts
        if pts is None or self._is_counted:
            return False
        if self._newest and (self._goes_back(pts, packet.is_keyframe) or self._leaps(pts)):
            return True
        is_first = not self._newest
        self._last_pts = pts if is_first else max(self._last_pts, pts)
        self.end_pts = max(pts if is_first else self.end_pts, pts + max(packet.duration or 0, 1))
        self._is_after_keyframe = packet.is_keyframe
        (heappush if len(self._newest) <= MAX_REORDERED else heappushpop)(self._newest, pts)
        return False

    def _goes_back(self, pts: int, is_keyframe: bool) -> bool:
        """Behind more frames than can be reordered; or a keyframe behind any frame before it, unless the file calls
        every frame a keyframe."""
        is_far_behind = len(self._newest) > MAX_REORDERED and pts < self._newest[0]
        return is_far_behind or (is_keyframe and not self._is_after_keyframe and pts <= self._last_pts)

    def _leaps(self, pts: int) -> bool:
        return self._max_pause is not None and pts - self.end_pts > self._max_pause


@dataclass
class TimelinePart:
    """A part with timestamps of its own: when it begins on the one timeline, and how many packets it has so far."""

    begins_pts: int
    num_packets: int = 0


class JoinedPackets:
    """The packets of a freshly opened video, in decoding order, on one timeline.

    parts: those of the timeline so far.

    Raises DecodeError for more frames than are read, for a part that cannot be read or that needs another decoder, and
    whatever FFmpeg raises.
    """

    def __init__(self, video: OpenVideo) -> None:
        self._video = video
        self._is_ogg = video.container_name == _OGG
        self.parts = [TimelinePart(video.start_pts)]

    @property
    def is_joined(self) -> bool:
        """Whether timestamps have begun anew so far."""
        return len(self.parts) > 1

    def __iter__(self) -> Iterator[Packet[VideoStream]]:
        timeline, shift, begins_byte, end_byte, is_new = DiscontinuityDetector(self._video), 0, 0, 0, False
        limit = None if self._video.read_at is None else MAX_FRAMES  # none for what is live
        for number, packet in enumerate(self._demux()):
            if number == limit:
                raise DecodeError(f"it has more than {limit:,} frames, the most that are read of such a file")
            if self._is_header(packet):
                is_new = True
                continue
            if (is_new and packet.pts is not None) or timeline.breaks_at(packet):
                begins_byte = self._check_part(begins_byte, end_byte, packet)
                shift += timeline.end_pts - cast("int", packet.pts)
                self.parts.append(TimelinePart(cast("int", packet.pts) + shift))
                timeline = DiscontinuityDetector(self._video)
                is_new = timeline.breaks_at(packet)
            if shift:
                packet.pts = None if packet.pts is None else packet.pts + shift
                packet.dts = None if packet.dts is None else packet.dts + shift
            self.parts[-1].num_packets += 1
            end_byte = max(end_byte, (packet.pos or 0) + packet.size)
            yield packet

    def _is_header(self, packet: Packet[VideoStream]) -> bool:
        """Whether it holds no frame but what an Ogg file begins with, which comes again where a second one begins.

        Raises DecodeError if it differs from that of the first.
        """
        if not (self._is_ogg and packet.size and _OGG_HEADER.match(memoryview(packet))):
            return False
        decoder, content = self._video.decoder, bytes(packet)
        if decoder.name == "theora" and content[0] != _THEORA_REMARKS and content not in (decoder.extradata or b""):
            raise DecodeError("it holds several joined files of different sizes or encoder settings; split it")
        return True

    def _check_part(self, previous_byte: int, end_byte: int, packet: Packet[VideoStream]) -> int:
        """Where the part begins whose first packet this is; the part before begins at `previous_byte`.

        Raises DecodeError if it needs another decoder.
        """
        video, begins_byte = self._video, packet.pos or 0
        if video.read_at is None:
            return begins_byte
        between = video.read_at(end_byte, min(max(begins_byte - end_byte, 0), _MAX_HEADER_BYTES))
        header = between.find(_HEADERS.get(video.container_name, b""))
        begins_byte = end_byte + header if header >= 0 else begins_byte
        check_alike(video.read_at, video.container_name, [previous_byte, begins_byte])
        return begins_byte

    def _demux(self) -> Iterator[Packet[VideoStream]]:
        """Those of the stream. Of formats in which streams may come and go, all are read, to know that none is left."""
        container, stream, end_byte = self._video.container, self._video.stream, 0
        is_loose = self._video.container_name in _LOOSE
        is_checked = is_loose or self._video.container_name == MATROSKA
        # PyAV's demux loses a packet's memory when it is dropped half-way without being closed.
        demuxed = cast("Generator[Packet[VideoStream]]", container.demux() if is_loose else container.demux(stream))
        # Zeros at the end are answered by "try again", and a stream that was not there at first by an IndexError.
        with suppress(IndexError, av.BlockingIOError), self._named(), closing(demuxed) as packets:
            for packet in packets:
                if is_checked:
                    end_byte = max(end_byte, (packet.pos or 0) + packet.size)
                if packet.stream is stream and (packet.size or packet.pts is not None):  # without PyAV's last ones
                    yield packet
        if is_loose or (self.is_joined and is_checked):
            self._check_rest(end_byte)

    def _check_rest(self, end_byte: int) -> None:
        """Raises DecodeError if something lies behind the last packet; cameras that lose power leave zeros there."""
        size, read_at = self._video.container.size, self._video.read_at
        if read_at is not None and size - end_byte > size // 16 and any(read_at(end_byte + 2**10, 2**12)):
            raise DecodeError(f"only {end_byte:,} of its {size:,} bytes can be read as one video; the rest is another")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """FFmpeg's "invalid argument" is about a second Ogg file of other codecs."""
        try:
            yield
        except av.ArgumentError as error:
            if self._is_ogg:
                raise DecodeError("it holds several joined files of different codecs; split it") from error
            raise
