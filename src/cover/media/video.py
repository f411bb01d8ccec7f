"""Decode the frames of a video file that are shown at chosen times.

    frames      |K  |   |   |      |   |K  |   |   |       K: keyframe, where decoding can begin
    wanted             x                         x         → the last frame at or before each time

Times count from the stream's first timestamp. Frames are found by timestamp, never by number, so variable frame rates
need no special care. FFmpeg may open the same media more than once, for their length or a second attempt. Everything is
decoded in the calling thread, so forked workers are safe.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from typing import NamedTuple, TypeVar

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from cover.errors import DecodeError
from cover.media.containers import AVI, MATROSKA, MP4
from cover.media.continuity import JoinedPackets
from cover.media.demux import OpenVideo, open_video
from cover.media.failures import opened
from cover.media.keyframe_seek import INDEXED, Unreliable, frames_by_packets
from cover.media.pixels import Orientation, Picture, make_pictures, square_size
from cover.media.sampling import Sampling
from cover.media.sequential import frames_one_by_one
from cover.media.source import AnySource, MediaInfo, OpenMedia

_FRESH_SECONDS = 0.05
"""About one frame. If a header and a stored length differ by more, the file has been replaced since it was measured."""


def probe_video(source: AnySource) -> MediaInfo:
    """Read the facts about a video from its header and first frame, and from all packets if the header lists no frames.

    Args:
        source: A file, a member of a shard, or open media.

    Raises:
        DecodeError: It cannot be decoded; the message names the file.
    """
    with opened(source) as media, open_video(media) as video:
        first = next(frames_one_by_one(video, [0]))
        orientation = Orientation.of(first)
        width_px, height_px = orientation.turned(*square_size(first, video.pixel_aspect))
        num_frames, seconds = _count_frames(media, video), _extent(media, video).seconds
        return MediaInfo(
            num_frames=num_frames,
            fps=_fps(video, num_frames, seconds),
            duration_seconds=seconds,
            width_px=width_px,
            height_px=height_px,
            rotation=orientation.degrees,
        )


def decode_video(
    source: AnySource, sampling: Sampling, *, short_side_px: int | None = None, stored_seconds: float | None = None
) -> npt.NDArray[np.uint8]:
    """Decode frames. The frame for time t is the one shown at t.

    A short clip repeats frames. A video whose end is missing or damaged repeats its last frame, as a player would.

    Args:
        source: A file, a member of a shard, or open media.
        sampling: The times.
        short_side_px: Scale a longer short side down to this.
        stored_seconds: The length that a check has measured. It saves measuring if the header still states the same.

    Returns:
        uint8 [T,Y,X,3], RGB, as players show it.

    Raises:
        DecodeError: No frame can be decoded; the message names the file.
    """

    def pictures(frames: Iterable[VideoFrame], video: OpenVideo) -> list[Picture]:
        return list(make_pictures(frames, short_side_px, video.pixel_aspect))

    return np.stack([picture.rgb for picture in _decode(source, sampling, pictures, stored_seconds)])


class ShownFrame(NamedTuple):
    """A frame of a video.

    Attributes:
        frame: The frame.
        begins_seconds: When it begins to be shown, from the beginning of the video.
        end: When it stops being shown, in the stream's unit.
    """

    frame: VideoFrame
    begins_seconds: Fraction
    end: int


def decode_shown_frames(
    source: AnySource, sampling: Sampling, convert: Callable[[VideoFrame, Fraction], VideoFrame]
) -> list[ShownFrame]:
    """Return the frames of decode_video, each once and converted. The decoded frames are not kept.

    Args:
        source: A file, a member of a shard, or open media.
        sampling: The times.
        convert: Takes a frame and the width of its pixels divided by their height, and returns the frame to keep.

    Raises:
        DecodeError: No frame can be decoded; the message names the file.
    """

    def shown(frames: Iterable[VideoFrame], video: OpenVideo) -> list[ShownFrame]:
        kept = []
        for frame, _ in groupby(frames):
            pts = frame.pts or 0
            begins_seconds = (pts - video.start_pts) * video.time_base
            kept.append(ShownFrame(convert(frame, video.pixel_aspect), begins_seconds, pts + (frame.duration or 0)))
        return kept

    return _decode(source, sampling, shown)


_Kept = TypeVar("_Kept", Picture, ShownFrame)
_Keep = Callable[[Iterable[VideoFrame], OpenVideo], list[_Kept]]


def _decode(
    source: AnySource, sampling: Sampling, keep: _Keep[_Kept], stored_seconds: float | None = None
) -> list[_Kept]:
    """Decode the chosen frames and return what `keep` makes of them.

    If reading by packets fails, `keep` is called again.
    """
    with opened(source) as media, open_video(media) as video:
        extent = None if sampling.end_seconds is not None else _extent(media, video, stored_seconds)
        seconds, fps = extent.seconds if extent else math.inf, float(video.stream.average_rate or 0)
        times = [video.to_pts(time) for time in sampling.times_seconds(seconds, fps)]
        if video.container_name in INDEXED and not (extent and extent.is_joined):
            try:
                kept = keep(frames_by_packets(video, times), video)
            except (Unreliable, av.FFmpegError):
                kept = _decode_again(media, times, keep)
        else:
            kept = keep(frames_one_by_one(video, times), video)
        if extent and extent.is_stored and kept[-1].end <= times[-1] and _measure(media).seconds != extent.seconds:
            return _decode(media, sampling, keep)  # the file has been cut off since it was measured
        # Only if the first frame ends before the segment begins, the end of the video has to be looked for.
        if kept[0].end <= video.to_pts(sampling.start_seconds or 0.0):
            sampling.check(_measure(media).seconds)
        return kept


def _decode_again(media: OpenMedia, times: Sequence[int], keep: _Keep[_Kept]) -> list[_Kept]:
    with open_video(media) as video:
        return keep(frames_one_by_one(video, times), video)


@dataclass(frozen=True)
class _Extent:
    """How long a video is.

    Attributes:
        seconds: From the first timestamp to the end of the last frame.
        is_joined: Whether its timestamps start again in the middle.
        is_stored: Whether it was measured by a check and not now.
    """

    seconds: float
    is_joined: bool = False
    is_stored: bool = False


def _extent(media: OpenMedia, video: OpenVideo, stored_seconds: float | None = None) -> _Extent:
    if _is_listed(video):
        return _Extent(float((video.stream.duration or 0) * video.time_base))
    if stored_seconds is not None and _states(video, stored_seconds):
        return _Extent(stored_seconds, is_stored=True)
    return _measure(media)


def _states(video: OpenVideo, seconds: float) -> bool:
    """Whether the header states this length. That of joined files does not: it is the length of a part.

    FFmpeg and mkvmerge write the length of each stream as a tag, "00:01:02.345"; the header may also count the sound.
    """
    tag = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", video.stream.metadata.get("DURATION", ""))
    if tag:
        hours, minutes, rest = map(float, tag.groups())
        stated = 3600 * hours + 60 * minutes + rest
    else:
        stated = video.stated_seconds or 0.0
    return abs(stated - seconds) < _FRESH_SECONDS


def _count_frames(media: OpenMedia, video: OpenVideo) -> int:
    if _is_listed(video):
        return sum(not entry.is_discard for entry in video.stream.index_entries)
    with open_video(media) as reopened:
        return sum(packet.size > 0 and not packet.is_discard for packet in JoinedPackets(reopened))


def _is_listed(video: OpenVideo) -> bool:
    """Whether the file lists all frames and its duration agrees with the list; the header alone is not enough."""
    entries, duration = video.stream.index_entries, video.stream.duration
    if duration is None or not len(entries) or video.is_joined:
        return False
    last, end = entries[len(entries) - 1].timestamp, video.start_pts + duration
    if video.container_name == AVI:
        return last + 1 == end
    return video.container_name == MP4 and last < end


def _measure(media: OpenMedia) -> _Extent:
    """Measure the time from the first timestamp to the end of the last frame by reading packets.

    In Matroska, only the packets at the end are read.
    """
    with open_video(media) as video:
        if video.container_name == MATROSKA:
            video.container.seek(2**62, stream=video.stream)
        extent = _extent_of(video)
    if not (extent.is_joined and video.container_name == MATROSKA):
        return extent
    with open_video(media) as video:  # the end of a joined file says nothing about its beginning
        return _extent_of(video)


def _extent_of(video: OpenVideo) -> _Extent:
    """Measure the remaining packets."""
    packets = JoinedPackets(video)
    # Packets of AVI have no presentation times, only ones that FFmpeg makes up; their decoding times count frames.
    is_avi = video.container_name == AVI
    first, last, end, num_frames = 2**63, -(2**63), -(2**63), 0
    for packet in packets:
        if not packet.is_discard:
            pts = (packet.dts if is_avi else packet.pts) or 0
            first, last, end = min(first, pts), max(last, pts), max(end, pts + (packet.duration or 0))
            num_frames += 1
    if not num_frames:
        raise DecodeError("it has no frames")
    if end == last:
        end += video.missing_duration(first, last, num_frames)
    return _Extent(float((end - video.start_pts) * video.time_base), packets.is_joined)


def _fps(video: OpenVideo, num_frames: int, seconds: float) -> float | None:
    """Return the frame rate that the file states, unless it is far from what it contains.

    Raw DV, for example, states its unit of time.
    """
    stated = float(video.stream.average_rate or 0)
    counted = num_frames / seconds if seconds else 0.0
    return (stated if counted / 2 <= stated <= 2 * counted else counted) or None
