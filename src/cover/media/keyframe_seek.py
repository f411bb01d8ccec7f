"""The fast way to chosen frames: packets say when each frame is shown, so only what these frames need is decoded.

    packets, in decoding order      K   P   b   P   b   b   K   P   b   P        K: a keyframe
    chosen                                              x           x            b: no other frame refers to it
    decoded                         K   P       P       b   K   P   b

Only containers with an index of their keyframes promise everything that this needs, and a file may break the promise.
Then Unreliable is raised, and the file has to be decoded from its beginning (sequential.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import cast

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from cover.media.containers import MATROSKA, MP4
from cover.media.continuity import MAX_REORDERED, DiscontinuityDetector
from cover.media.demux import OpenVideo
from cover.media.pixels import keep_orientation

INDEXED = MP4, MATROSKA
"""The containers for this. In others, packets may have no times, or guessed ones after a seek."""

_MAX_STRETCH = 2**15
"""The most packets that are held at a time: nine minutes at 60 a second without a keyframe to start from."""


class Unreliable(Exception):
    """The packets of a file and their decoded frames disagree."""


def frames_by_packets(video: OpenVideo, times: Sequence[int]) -> Iterator[VideoFrame]:
    """Yield the frame shown at each of the times.

    An FFmpegError or Unreliable may also come after some frames.

    Args:
        video: A newly opened file in one of the containers INDEXED.
        times: Ascending times, in the stream's unit.

    Raises:
        Unreliable: The file cannot be read in this way.
    """
    with closing(_Stretch(video)) as stretch:
        for time in times:
            if stretch.ends_before_keyframe_of(time):
                yield from stretch.frames()
                stretch.begin_at(time)
            stretch.cover(time)
        yield from stretch.frames()


class _Stretch:
    """Consecutive packets in decoding order, and the times that are looked for among them."""

    def __init__(self, video: OpenVideo) -> None:
        self._video = video
        self._container, self._stream, self._decoder = video.container, video.stream, video.decoder
        self._begin()

    def _begin(self) -> None:
        # PyAV's demux leaks the memory of a packet if it is dropped without being closed.
        self._demuxed = cast("Generator[Packet[VideoStream]]", self._container.demux(self._stream))
        self._timeline = DiscontinuityDetector(self._video)
        self._packets: list[Packet[VideoStream]] = []
        self._times: list[int] = []
        self._is_over = False

    def close(self) -> None:
        self._demuxed.close()

    def begin_at(self, time: int) -> None:
        """Start again, at the last keyframe at or before `time`."""
        target = time
        while True:
            self.close()
            self._container.seek(target, stream=self._stream)
            self._begin()
            self._read()
            first = self._packets[0] if self._packets else None
            if first is not None and first.is_keyframe and _pts(first) <= time:
                return
            # An index may use decoding times, which are earlier than presentation times.
            if first is None or first.dts is None or first.dts > target:
                raise Unreliable
            target = first.dts - 1

    def cover(self, time: int) -> None:
        """Read on until no later packet can be shown at or before `time`."""
        while not (self._is_over or self._is_beyond(time)):
            self._read()
        self._times.append(time)

    def _read(self) -> None:
        packet = next(self._demuxed)
        if packet.size == 0 and packet.pts is None:  # PyAV's flush packet
            self._is_over = True
        elif self._timeline.breaks_at(packet) or len(self._packets) == _MAX_STRETCH:
            raise Unreliable
        else:
            self._packets.append(packet)

    def _is_beyond(self, time: int) -> bool:
        newest = self._packets[-MAX_REORDERED - 1 :]
        return len(newest) > MAX_REORDERED and all(_pts(packet) > time for packet in newest)

    def ends_before_keyframe_of(self, time: int) -> bool:
        """Whether there are packets between the last one read and the keyframe from which `time` is decoded."""
        if self._is_over:
            return False
        if not self._packets:
            # Nothing has been read yet, and Matroska's index is only read by the first seek.
            return time > self._video.start_pts
        entries = self._stream.index_entries
        keyframe = entries.search_timestamp(time)
        newest = self._packets[-1]
        return keyframe >= 0 and entries[keyframe].timestamp > (_pts(newest) if newest.dts is None else newest.dts)

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the frame shown at each of the covered times. Raises Unreliable if one does not come when it should."""
        chosen = _shown_at(self._times, self._packets)
        awaited = deque(_pts(self._packets[index]) for index in chosen)
        for needed in _needed_for(chosen, self._packets):
            for frame in keep_orientation(self._decode(needed, set(awaited))):
                if frame.pts == self._packets[needed.start].pts and not frame.key_frame:
                    raise Unreliable
                while awaited and frame.pts == awaited[0]:
                    yield frame
                    awaited.popleft()
        if awaited:
            raise Unreliable

    def _decode(self, needed: range, awaited: set[int]) -> Iterator[VideoFrame]:
        codec = self._decoder
        codec.flush_buffers()
        for packet in self._packets[needed.start : needed.stop]:
            # In H.264, no other frame depends on those that are marked. In HEVC, the mark only holds within a layer.
            spare = codec.name == "h264" and packet.pts not in awaited
            codec.skip_frame = "NONREF" if spare else "DEFAULT"
            yield from codec.decode(packet)
        yield from codec.decode(None)


def _shown_at(times: Sequence[int], packets: Sequence[Packet[VideoStream]]) -> list[int]:
    """Return the numbers of the packets that are shown at `times`.

    These are the last ones, in presentation order, that begin at or before each time.
    """
    order = sorted((_pts(packet), index) for index, packet in enumerate(packets) if not packet.is_discard)
    begins = [pts for pts, _ in order]
    if (times and not order) or len(set(begins)) < len(begins):
        raise Unreliable
    return [order[max(bisect_right(begins, time) - 1, 0)][1] for time in times]


def _needed_for(chosen: Sequence[int], packets: Sequence[Packet[VideoStream]]) -> list[range]:
    """Return the numbers of the packets to decode.

    For each chosen packet, these begin at the last keyframe that is neither decoded nor shown after it.
    """
    needed: list[range] = []
    for index in sorted(set(chosen)):
        pts = _pts(packets[index])
        start = next((i for i in range(index, -1, -1) if packets[i].is_keyframe and _pts(packets[i]) <= pts), None)
        if start is None:
            raise Unreliable
        while needed and start <= needed[-1].stop:
            start = min(start, needed.pop().start)
        needed.append(range(start, index + 1))
    return needed


def _pts(packet: Packet[VideoStream]) -> int:
    if packet.pts is None:
        raise Unreliable
    return packet.pts
