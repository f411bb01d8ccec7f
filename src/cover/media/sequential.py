"""The sure way to chosen frames: decode the video from its beginning, frame by frame."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import attrgetter

import av
from av.video.frame import VideoFrame

from cover.errors import DecodeError
from cover.media.containers import AVI
from cover.media.continuity import JoinedPackets, TimelinePart
from cover.media.demux import OpenVideo
from cover.media.pixels import keep_orientation

MAX_WITHOUT_KEYFRAME = 250
"""Packets of a part that begins between keyframes, and may give no frame before the next: encoders' usual distance."""


def frames_one_by_one(video: OpenVideo, times: Sequence[int]) -> Iterator[VideoFrame]:
    """The frame shown at each of the ascending `times` (in the stream's unit) of a freshly opened file.

    Raises DecodeError if not one frame decodes.
    """
    decoded = all_frames(video)
    shown, coming = next(decoded, None), next(decoded, None)
    if shown is None:
        raise DecodeError("no frame of it can be decoded")
    for time in times:
        while coming is not None and pts_of(coming) <= time:
            shown, coming = coming, next(decoded, None)
        yield shown


def all_frames(video: OpenVideo) -> Iterator[VideoFrame]:
    """Every frame of a freshly opened file that decodes, in the order shown."""
    packets = JoinedPackets(video)
    decoded = keep_orientation(_of_every_part(_decode(video, packets), packets.parts))
    return _avi_frames(decoded, video.start_pts) if video.container_name == AVI else decoded


def _decode(video: OpenVideo, packets: JoinedPackets) -> Iterator[VideoFrame]:
    """Frames in the order shown. Damaged packets are left out, and the file ends where it cannot be read further."""
    remaining = iter(packets)
    while True:
        try:
            packet = next(remaining, None)
        except av.FFmpegError:
            packet = None
        try:
            frames = video.decoder.decode(packet)
        except av.FFmpegError:
            frames = []
        yield from frames
        if packet is None:
            return


def _of_every_part(frames: Iterator[VideoFrame], parts: Sequence[TimelinePart]) -> Iterator[VideoFrame]:
    """The same frames. Raises DecodeError where a long part of joined files gives none: it needs another decoder."""
    num_checked = 0
    for frame in frames:
        if frame.pts is not None:
            number = max(bisect_right(parts, frame.pts, key=attrgetter("begins_pts")) - 1, 0)
            _check_silent(parts[num_checked:number])
            num_checked = max(num_checked, number + 1)
        yield frame
    if num_checked:
        _check_silent(parts[num_checked:])


def _check_silent(parts: Sequence[TimelinePart]) -> None:
    if any(part.num_packets > MAX_WITHOUT_KEYFRAME for part in parts):
        raise DecodeError("it holds several joined files, of which one cannot be decoded like the others; split it")


def _avi_frames(frames: Iterator[VideoFrame], pts: int) -> Iterator[VideoFrame]:
    """AVI stores no times of showing, and FFmpeg's guesses are wrong for B-frames: count on from the first frame."""
    previous_dts: int | None = None
    for frame in frames:
        if previous_dts is not None:
            pts += 1 if frame.dts is None else frame.dts - previous_dts
        previous_dts = previous_dts if frame.dts is None else frame.dts
        frame.pts = pts
        yield frame


def pts_of(frame: VideoFrame) -> int:
    """When the frame begins to be shown, in the stream's unit. Raises DecodeError where it does not say."""
    if frame.pts is None:
        raise DecodeError("its frames have no timestamps")
    return frame.pts
