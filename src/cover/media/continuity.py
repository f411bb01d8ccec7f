"""One timeline for a video whose timestamps start again in the middle.

    packets of two joined files    0   1   2   3 | 0   1   2   3
    shown at                       0   1   2   3   4   5   6   7

People and recorders join files byte by byte (`cat a.ts b.ts`), and the clocks of broadcasts overflow every 26 hours.
Players show the frames one after another, and so do we.
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
"""The most frames that H.264 and HEVC allow to be decoded before a frame that is shown before them."""

_MAX_PAUSE_SECONDS = 10
"""In broadcast formats, a longer pause counts as a jump of the clock, as in FFmpeg's own tools. In other formats, a
frame may be shown for as long as the file says, such as a slide of a lecture.
"""

_CLOCK_JUMPS = cast("int", Flags.ts_discont.value)
"""FFmpeg's flag of such formats: MPEG-TS and -PS, and Ogg."""

_LOOSE = {"flv", "mpegts"}
"""Formats in which FFmpeg may skip a second file after the first, because it starts streams of its own."""

_OGG = "ogg"
_HEADERS = {"mpegts": b"G@\0", _OGG: b"OggS\0\2", MATROSKA: b"\x1aE\xdf\xa3"}
"""What a part begins with, after the last packet of the part before. Other formats need no header."""

_OGG_HEADER, _THEORA_REMARKS = re.compile(rb"[\x80-\x82]theora|OVP80", re.DOTALL), 0x81

_MAX_HEADER_BYTES = 2**26
"""A limit for the index at the end of a part and the header of the next, with attachments such as fonts."""


class DiscontinuityDetector:
    """Takes the packets of a video in decoding order and finds where its timestamps start again.

    Attributes:
        end_pts: When the last frame so far stops being shown.
    """

    def __init__(self, video: OpenVideo) -> None:
        self._max_pause = _MAX_PAUSE_SECONDS / video.time_base if video.container.format.flags & _CLOCK_JUMPS else None
        self._is_counted = video.container_name == AVI  # has no presentation times; FFmpeg keeps counting by itself
        self._newest: list[int] = []  # a heap of the latest times
        self._last_pts = 0
        self._is_after_keyframe = False
        self.end_pts = 0

    def breaks_at(self, packet: Packet[VideoStream]) -> bool:
        """Whether `packet` does not belong to the timeline of the packets before it."""
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
        """Whether a timestamp is out of order.

        It is if more frames come before it than can be reordered, or if it is a keyframe that is earlier than any frame
        before it, unless the file marks every frame as a keyframe.
        """
        is_far_behind = len(self._newest) > MAX_REORDERED and pts < self._newest[0]
        return is_far_behind or (is_keyframe and not self._is_after_keyframe and pts <= self._last_pts)

    def _leaps(self, pts: int) -> bool:
        return self._max_pause is not None and pts - self.end_pts > self._max_pause


@dataclass
class TimelinePart:
    """A part with timestamps of its own.

    Attributes:
        begins_pts: When it begins on the common timeline.
        num_packets: The number of its packets so far.
    """

    begins_pts: int
    num_packets: int = 0


class JoinedPackets:
    """The packets of a newly opened video, in decoding order, on one timeline.

    Iterating also raises whatever FFmpeg raises.

    Args:
        video: The open video.

    Attributes:
        parts: The parts of the timeline so far.

    Raises:
        DecodeError: There are too many frames, or a part cannot be read or needs another decoder.
    """

    def __init__(self, video: OpenVideo) -> None:
        self._video = video
        self._is_ogg = video.container_name == _OGG
        self.parts = [TimelinePart(video.start_pts)]

    @property
    def is_joined(self) -> bool:
        """Whether timestamps have started again so far."""
        return len(self.parts) > 1

    def __iter__(self) -> Iterator[Packet[VideoStream]]:
        timeline, shift, begins_byte, end_byte, is_new = DiscontinuityDetector(self._video), 0, 0, 0, False
        limit = None if self._video.read_at is None else MAX_FRAMES  # no limit for live streams
        for number, packet in enumerate(self._demux()):
            if number == limit:
                raise DecodeError(f"it has more than {limit:,} frames, the most that are read")
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
        """Whether a packet contains a header of Ogg, which occurs again where a second file begins, and no frame.

        Raises DecodeError if it differs from the header of the first file.
        """
        if not (self._is_ogg and packet.size and _OGG_HEADER.match(memoryview(packet))):
            return False
        decoder, content = self._video.decoder, bytes(packet)
        if decoder.name == "theora" and content[0] != _THEORA_REMARKS and content not in (decoder.extradata or b""):
            raise DecodeError("it consists of joined files with different sizes or encoder settings; split it")
        return True

    def _check_part(self, previous_byte: int, end_byte: int, packet: Packet[VideoStream]) -> int:
        """Return the byte at which the part begins whose first packet this is.

        Raises DecodeError if the part needs another decoder than the one that begins at `previous_byte`.
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
        """Yield the packets of the video stream.

        In formats whose streams may come and go, all streams are read, to be sure that nothing is left.
        """
        container, stream, end_byte = self._video.container, self._video.stream, 0
        is_loose = self._video.container_name in _LOOSE
        is_checked = is_loose or self._video.container_name == MATROSKA
        # PyAV's demux leaks the memory of a packet if it is dropped without being closed.
        demuxed = cast("Generator[Packet[VideoStream]]", container.demux() if is_loose else container.demux(stream))
        # Zeros at the end raise "try again", and a stream that was not there at first raises an IndexError.
        with suppress(IndexError, av.BlockingIOError), self._named(), closing(demuxed) as packets:
            for packet in packets:
                if is_checked:
                    end_byte = max(end_byte, (packet.pos or 0) + packet.size)
                if packet.stream is stream and (packet.size or packet.pts is not None):  # without PyAV's flush packets
                    yield packet
        if is_loose or (self.is_joined and is_checked):
            self._check_rest(end_byte)

    def _check_rest(self, end_byte: int) -> None:
        """Raise DecodeError if there are data after the last packet; cameras that lose power leave zeros there."""
        size, read_at = self._video.container.size, self._video.read_at
        if read_at is not None and size - end_byte > size // 16 and any(read_at(end_byte + 2**10, 2**12)):
            raise DecodeError(f"only {end_byte:,} of its {size:,} bytes can be read as one video; split off the rest")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Explain FFmpeg's "invalid argument", which means a second Ogg file with other codecs."""
        try:
            yield
        except av.ArgumentError as error:
            if self._is_ogg:
                raise DecodeError("it consists of joined files with different codecs; split it") from error
            raise
