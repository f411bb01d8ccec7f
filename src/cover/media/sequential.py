"""Decode a video from its beginning: the reliable way to chosen frames, and the way through long videos.

    decoded     |   |   |   |   |   |   |   |   |   |
    steps       |---x---|---x---|---x---|---x---|-        x: the frame shown in the middle of each step (FrameStream)

Two decoded frames are held at a time, so a long video takes no more memory than a short one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from operator import attrgetter
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from cover.errors import DecodeError
from cover.media.containers import AVI
from cover.media.continuity import JoinedPackets, TimelinePart
from cover.media.demux import OpenVideo, open_video
from cover.media.pixels import keep_orientation, make_pictures
from cover.media.source import MediaSource

MAX_WITHOUT_KEYFRAME = 250
"""A part that begins between keyframes may have this many packets before the first frame: the usual keyframe
distance.
"""

MAX_STILL_SECONDS = 3600
"""The longest time that one frame may be shown. More is not a slide but a jump of the timestamps, which would fill
days.
"""


def frames_one_by_one(video: OpenVideo, times: Sequence[int]) -> Iterator[VideoFrame]:
    """Yield the frame shown at each of the times.

    Args:
        video: A newly opened file.
        times: Ascending times, in the stream's unit.

    Raises:
        DecodeError: No frame can be decoded.
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
    """Yield every frame of a newly opened file that can be decoded, in presentation order."""
    packets = JoinedPackets(video)
    decoded = keep_orientation(_of_every_part(_decode(video, packets), packets.parts))
    return _avi_frames(decoded, video.start_pts) if video.container_name == AVI else decoded


def _decode(video: OpenVideo, packets: JoinedPackets) -> Iterator[VideoFrame]:
    """Yield frames in presentation order.

    Damaged packets are skipped, and the file ends where it cannot be read further.
    """
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
    """Yield the same frames, and check that every long part of joined files has some.

    Raises DecodeError otherwise, because that part needs another decoder.
    """
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
        raise DecodeError("it consists of joined files, one of which cannot be decoded like the others; split it")


def _avi_frames(frames: Iterator[VideoFrame], pts: int) -> Iterator[VideoFrame]:
    """Count the frames of AVI, which stores no presentation times; FFmpeg's guesses are wrong for B-frames."""
    previous_dts: int | None = None
    for frame in frames:
        if previous_dts is not None:
            pts += 1 if frame.dts is None else frame.dts - previous_dts
        previous_dts = previous_dts if frame.dts is None else frame.dts
        frame.pts = pts
        yield frame


def pts_of(frame: VideoFrame) -> int:
    """Return when the frame begins to be shown, in the stream's unit.

    Raises:
        DecodeError: The frame has no timestamp.
    """
    if frame.pts is None:
        raise DecodeError("its frames have no timestamps")
    return frame.pts


class FrameStream:
    """The frames of a video at regular steps, from its beginning to its end, at least one.

    They are the same frames as decode_video returns for these times: uint8 [Y,X,3], RGB, as players show them.

    Args:
        file: The path.
        step_seconds: The time between frames; the first one is that at half a step.
        short_side_px: Scale a longer short side down to this.

    Attributes:
        duration_seconds: The length that the header states, or None; the true length once the last frame is read.

    Raises:
        DecodeError: The file cannot be opened. Iterating raises it if no frame can be decoded or one is shown for
            hours. The message names the file.
    """

    def __init__(self, file: str | Path, *, step_seconds: float, short_side_px: int | None = None) -> None:
        self._source = MediaSource.of(file)
        self._step_seconds = step_seconds
        self._short_side_px = short_side_px
        with open_video(self._source) as video:
            self.duration_seconds = video.stated_seconds

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        with open_video(self._source, num_threads=0) as video, closing(self._shown(video)) as frames:
            for picture in make_pictures(frames, self._short_side_px, video.pixel_aspect):
                yield picture.rgb

    def _shown(self, video: OpenVideo) -> Generator[VideoFrame]:
        start, unit = video.start_pts, float(video.time_base)
        frames = all_frames(video)
        shown, step, num_frames = next(frames, None), 0, 0
        if shown is None:
            raise DecodeError("no frame of it can be decoded")
        while shown is not None:
            coming, num_frames = next(frames, None), num_frames + 1
            end = _end(video, shown, num_frames) if coming is None else pts_of(coming)
            _check_still((pts_of(shown) - start) * unit, (end - start) * unit)
            self.duration_seconds = (end - start) * unit
            # A millionth of a tick is subtracted, as in decode_video. A video shorter than half a step has one frame.
            while (step + 0.5) * self._step_seconds < self.duration_seconds - 1e-6 * unit or (
                coming is None and not step
            ):
                yield shown
                step += 1
            shown = coming


def _end(video: OpenVideo, last: VideoFrame, num_frames: int) -> int:
    return pts_of(last) + (last.duration or video.missing_duration(video.start_pts, pts_of(last), num_frames))


def _check_still(begins_seconds: float, ends_seconds: float) -> None:
    if ends_seconds - begins_seconds > MAX_STILL_SECONDS:
        raise DecodeError(
            f"its picture stands still from {begins_seconds:,.1f} s to {ends_seconds:,.1f} s; "
            f"a frame may be shown for at most {MAX_STILL_SECONDS:,} s"
        )
