"""Video files → the frames shown at chosen times.

    frames      |K  |   |   |      |   |K  |   |   |       K: keyframe, where decoding can begin
    wanted             x                         x         → the last frame at or before each time

Times count from the stream's first timestamp. Frames are found by timestamp, never by number, so a variable frame rate
needs no care. Every call opens the file for itself and decodes in the calling thread, so that forked workers are safe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TypeVar

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from cover.errors import DecodeError
from cover.media.faults import MAX_FRAME_PX, check_frame_size, decoding
from cover.media.info import MediaInfo
from cover.media.one_by_one import frames_one_by_one
from cover.media.packets import INDEXED, MATROSKA, MP4, Unreliable, frames_by_packets
from cover.media.pixels import Picture, make_pictures, quarter_turns
from cover.media.sampling import Sampling
from cover.media.source import Source


def probe_video(source: Source | str | Path) -> MediaInfo:
    """Header and first frame of a video; where no header lists the frames, all packets.

    Raises DecodeError, naming the file, when it cannot be decoded.
    """
    source = Source.of(source)
    with decoding(source), open_video(source) as (container, stream):
        first = next(frames_one_by_one(container, stream, [0]))
        turns = quarter_turns(first)
        width_px, height_px = (first.height, first.width) if turns % 2 else (first.width, first.height)
        return MediaInfo(
            num_frames=_count_frames(source, container, stream),
            fps=float(stream.average_rate or 0) or None,
            duration_seconds=_duration_seconds(source, container, stream),
            width_px=width_px,
            height_px=height_px,
            rotation=90 * turns,
        )


def decode_video(
    source: Source | str | Path, sampling: Sampling, *, short_side_px: int | None = None
) -> npt.NDArray[np.uint8]:
    """uint8 [T,Y,X,3], RGB and upright. The frame for time t is the one shown at t.

    A short clip repeats frames, and one whose end is missing or damaged repeats its last, as a player would.
    short_side_px: what a longer short side is scaled down to.

    Raises DecodeError, naming the file, for everything that gives no frame.
    """
    pictures = _decode(Source.of(source), sampling, lambda frames, _: list(make_pictures(frames, short_side_px)))
    return np.stack([picture.rgb for picture in pictures])


class ShownFrame(NamedTuple):
    """A frame, when it begins to be shown in its video, and when it ceases, in the stream's unit."""

    frame: VideoFrame
    begins_seconds: Fraction
    end: int


def decode_shown_frames(
    source: Source | str | Path, sampling: Sampling, convert: Callable[[VideoFrame], VideoFrame]
) -> list[ShownFrame]:
    """The frames of decode_video, each once, as `convert` makes them of the decoded ones, which are not held.

    Raises DecodeError, naming the file, for everything that gives no frame.
    """

    def shown(frames: Iterable[VideoFrame], stream: VideoStream) -> list[ShownFrame]:
        start, unit = stream.start_time or 0, time_base_of(stream)
        kept = []
        for frame, _ in groupby(frames):
            pts = frame.pts or 0
            kept.append(ShownFrame(convert(frame), (pts - start) * unit, pts + (frame.duration or 0)))
        return kept

    return _decode(Source.of(source), sampling, shown)


_Kept = TypeVar("_Kept", Picture, ShownFrame)
_Keep = Callable[[Iterable[VideoFrame], VideoStream], list[_Kept]]


def _decode(source: Source, sampling: Sampling, keep: _Keep[_Kept]) -> list[_Kept]:
    """What `keep` makes of the chosen frames, as they come. It may be called twice, if the first time ends half-way."""
    with decoding(source), open_video(source) as (container, stream):
        seconds = math.inf if sampling.end_seconds is not None else _duration_seconds(source, container, stream)
        times = [_to_pts(stream, time) for time in sampling.times_seconds(seconds)]
        if container.format.name in INDEXED:
            try:
                kept = keep(frames_by_packets(container, stream, times), stream)
            except (Unreliable, av.FFmpegError):
                kept = _decode_afresh(source, times, keep)
        else:
            kept = keep(frames_one_by_one(container, stream, times), stream)
        # Only a frame that ended before the segment begins makes it worth while to look for the end of the video.
        if kept[0].end <= _to_pts(stream, sampling.start_seconds or 0.0):
            sampling.check(_measure_seconds(source))
        return kept


def _decode_afresh(source: Source, times: Sequence[int], keep: _Keep[_Kept]) -> list[_Kept]:
    with open_video(source) as (container, stream):
        return keep(frames_one_by_one(container, stream, times), stream)


@contextmanager
def open_video(source: Source, *, num_threads: int = 1) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A file and its video stream, or the best of several. num_threads: that decode; 0 is one for each CPU.

    Raises DecodeError where there is none, and whatever FFmpeg does; for use inside of `decoding`.
    """
    # Only local files: a playlist in disguise must not reach for the network.
    options = {"protocol_whitelist": "file,subfile"}
    with av.open(source.for_ffmpeg(), "r", metadata_errors="replace", options=options) as container:
        stream = best_video_stream(container)
        stream.codec_context.thread_count, stream.codec_context.thread_type = num_threads, "AUTO"
        yield container, stream


def best_video_stream(container: InputContainer) -> VideoStream:
    """The one that FFmpeg would play. Raises DecodeError where there is none, and for frames that are too large."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise DecodeError("it has no video stream")
    check_frame_size(stream.width, stream.height)
    stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PX)}  # for sizes that change on the way
    return stream


def _duration_seconds(source: Source, container: InputContainer, stream: VideoStream) -> float:
    if _knows_duration(container, stream):
        return float((stream.duration or 0) * time_base_of(stream))
    return _measure_seconds(source)


def _count_frames(source: Source, container: InputContainer, stream: VideoStream) -> int:
    if len(stream.index_entries) and _knows_duration(container, stream):
        return sum(not entry.is_discard for entry in stream.index_entries)
    with open_video(source) as (container, stream):
        return sum(packet.size > 0 and not packet.is_discard for packet in container.demux(stream))


def _knows_duration(container: InputContainer, stream: VideoStream) -> bool:
    """Whether more than a header's word is behind the duration: a list of all frames that agrees with it."""
    form, entries = container.format.name, stream.index_entries
    if stream.duration is None or (form != "gif" and not len(entries)):
        return False
    end = (stream.start_time or 0) + stream.duration
    match form:
        case "gif":
            return True  # FFmpeg has gone through all frames
        case "avi":
            return entries[len(entries) - 1].timestamp + 1 == end
        case _:
            return form == MP4 and entries[len(entries) - 1].timestamp < end


def _measure_seconds(source: Source) -> float:
    """From the first timestamp to the end of the last frame, by all packets; in Matroska by those of the end."""
    with open_video(source) as (container, stream):
        if container.format.name == MATROSKA:
            container.seek(2**62, stream=stream)
        # AVI's packets have no times of showing, whatever FFmpeg makes up; their count is in those of decoding.
        is_avi = container.format.name == "avi"
        packets = (packet for packet in container.demux(stream) if not packet.is_discard)
        end = max(((packet.dts if is_avi else packet.pts) or 0) + (packet.duration or 0) for packet in packets)
        return float((end - (stream.start_time or 0)) * time_base_of(stream))


def time_base_of(stream: VideoStream) -> Fraction:
    """The unit of the stream's timestamps, in seconds. Raises DecodeError where there is none."""
    if stream.time_base is None:
        raise DecodeError("its timestamps have no unit")
    return stream.time_base


def _to_pts(stream: VideoStream, seconds: float) -> int:
    # A millionth of a tick is added, lest a time on the edge of a frame be rounded into the one before.
    return (stream.start_time or 0) + math.floor(seconds / time_base_of(stream) + 1e-6)
