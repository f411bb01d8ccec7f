"""Moving through a video: frame by frame, or in leaps from keyframe to keyframe."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from cover.errors import DecodeError

# Containers with a true index of keyframes, in FFmpeg's names. Elsewhere timestamps after a leap may be guesses.
_INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}


class Playhead:
    """Goes forward through a freshly opened video, and knows the frame shown now and the one after it."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container = container
        self._stream = stream
        self._frames = _decode(container, stream)
        if container.format.name == "avi":
            self._frames = _avi_frames(self._frames, stream.start_time or 0)
        self._shown: VideoFrame | None = None
        self._next: VideoFrame | None = None

    def frame_at(self, pts: int) -> VideoFrame:
        """The frame shown at `pts`, which must not lie before an earlier call's. Raises DecodeError if none decodes."""
        if self._shown is None:
            self._shown, self._next = next(self._frames, None), next(self._frames, None)
        while self._next is not None and _pts(self._next) <= pts:
            self._shown, self._next = self._next, next(self._frames, None)
        if self._shown is None:
            raise DecodeError("no frame of it can be decoded")
        return self._shown

    def is_over(self, pts: int) -> bool:
        """Whether the last frame is no longer shown at `pts`, to which `frame_at` has gone."""
        return self._next is None and self._shown is not None and _pts(self._shown) + (self._shown.duration or 1) <= pts

    def leap(self, pts: int) -> bool:
        """Go to the last keyframe at or before `pts` where that skips frames.

        False when the leap ended elsewhere, as it does where a file's index is wrong: open the file afresh then.
        """
        if not self._skips_frames(pts):
            return True
        try:
            self._container.seek(pts, stream=self._stream)
        except av.FFmpegError:
            return False
        self._frames = _decode(self._container, self._stream)
        self._shown, self._next = next(self._frames, None), next(self._frames, None)
        return self._shown is not None and self._shown.key_frame and _pts(self._shown) <= pts

    def _skips_frames(self, pts: int) -> bool:
        if self._container.format.name not in _INDEXED:
            return False
        if self._shown is None:
            # Nothing is lost yet, and Matroska's index is read only when the first leap is asked for.
            return pts > (self._stream.start_time or 0)
        entries = self._stream.index_entries
        keyframe = entries.search_timestamp(pts)
        return self._next is not None and keyframe >= 0 and entries[keyframe].timestamp > _pts(self._next)


def _decode(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames in the order shown. Damaged packets are left out, and the file ends where it cannot be read further."""
    # PyAV's demux loses a packet's memory when it is dropped half-way without being closed.
    with closing(cast("Generator[Packet[VideoStream]]", container.demux(stream))) as packets:
        while True:
            try:
                packet = next(packets, None)
                frames = stream.decode(None) if packet is None else packet.decode()
            except av.EOFError:
                return
            except av.FFmpegError:
                continue
            yield from frames


def _avi_frames(frames: Iterator[VideoFrame], pts: int) -> Iterator[VideoFrame]:
    """AVI stores no times of showing, and FFmpeg's guesses are wrong for B-frames: count on from the first frame."""
    previous_dts: int | None = None
    for frame in frames:
        if previous_dts is not None:
            pts += 1 if frame.dts is None else frame.dts - previous_dts
        previous_dts = previous_dts if frame.dts is None else frame.dts
        frame.pts = pts
        yield frame


def _pts(frame: VideoFrame) -> int:
    if frame.pts is None:
        raise DecodeError("its frames have no timestamps")
    return frame.pts
