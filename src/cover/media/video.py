"""Video files → the frames shown at chosen times.

    frames      |K  |   |   |      |   |K  |   |   |       K: keyframe, where decoding can begin
    wanted             x                         x         → the last frame at or before each time

Times count from the stream's first timestamp. Frames are found by timestamp, never by number, so a variable frame rate
needs no care. Every call opens the file for itself and decodes in the calling thread, so that forked workers are safe.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from cover.errors import DecodeError
from cover.media.faults import check_frame_size, decoding
from cover.media.info import MediaInfo
from cover.media.packets import MP4, Unreliable, frames_by_packets
from cover.media.pixels import quarter_turns, to_rgb
from cover.media.playhead import frames_one_by_one
from cover.media.sampling import Sampling
from cover.media.source import Source


def probe_video(source: Source | str | Path) -> MediaInfo:
    """Header and first frame of a video. Raises DecodeError, naming the file, when it cannot be decoded."""
    source = Source.of(source)
    with decoding(source), _open_video(source) as (container, stream):
        first = frames_one_by_one(container, stream, [0])[0]
        turns = quarter_turns(first)
        width_px, height_px = (first.height, first.width) if turns % 2 else (first.width, first.height)
        fps = float(stream.average_rate or 0) or None
        seconds = _duration_seconds(source, container, stream)
        return MediaInfo(stream.frames or None, fps, seconds, width_px, height_px, 90 * turns)


def decode_video(
    source: Source | str | Path, sampling: Sampling, *, short_side_px: int | None = None
) -> npt.NDArray[np.uint8]:
    """uint8 [T,Y,X,3], RGB and upright. The frame for time t is the one shown at t.

    A short clip repeats frames, and one whose end is missing or damaged repeats its last, as a player would.
    short_side_px: what a longer short side is scaled down to.

    Raises DecodeError, naming the file, for everything that gives no frame.
    """
    source = Source.of(source)
    with decoding(source):
        return to_rgb([frame for _, frame in _decode(source, sampling)], short_side_px)


class ShownFrame(NamedTuple):
    """When a frame begins to be shown, in seconds of its video; and the frame, neither converted nor turned."""

    begins_seconds: float
    frame: VideoFrame


def decode_shown_frames(source: Source | str | Path, sampling: Sampling) -> list[ShownFrame]:
    """The T frames of decode_video as they were decoded; one that is shown at several times is the same object there.

    Raises DecodeError, naming the file, for everything that gives no frame.
    """
    source = Source.of(source)
    with decoding(source):
        return _decode(source, sampling)


def _decode(source: Source, sampling: Sampling) -> list[ShownFrame]:
    with _open_video(source) as (container, stream):
        seconds = math.inf if sampling.end_seconds is not None else _duration_seconds(source, container, stream)
        times = [_to_pts(stream, time) for time in sampling.times_seconds(seconds)]
        try:
            frames = frames_by_packets(container, stream, times)
        except (Unreliable, av.FFmpegError):
            frames = _decode_through(source, times)
        # Only a frame that ended before the segment begins makes it worth while to look for the end of the video.
        if (frames[0].pts or 0) + (frames[0].duration or 0) <= _to_pts(stream, sampling.start_seconds or 0.0):
            sampling.check(_measure_seconds(source))
        start = stream.start_time or 0
        return [ShownFrame(float(((frame.pts or 0) - start) * _time_base(stream)), frame) for frame in frames]


def _decode_through(source: Source, times: Sequence[int]) -> list[VideoFrame]:
    with _open_video(source) as (container, stream):
        return frames_one_by_one(container, stream, times)


@contextmanager
def _open_video(source: Source) -> Iterator[tuple[InputContainer, VideoStream]]:
    # Only local files: a playlist in disguise must not reach for the network.
    options = {"protocol_whitelist": "file,subfile"}
    with av.open(source.for_ffmpeg(), "r", metadata_errors="replace", options=options) as container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream):
            raise DecodeError("it has no video stream")
        check_frame_size(stream.width, stream.height)
        stream.codec_context.thread_count = 1
        yield container, stream


def _duration_seconds(source: Source, container: InputContainer, stream: VideoStream) -> float:
    """From MP4's header, which lists the frames, so that its duration can be trusted, and seen to be wrong.

    Elsewhere it is a guess, and the packets tell.
    """
    end = (stream.start_time or 0) + (stream.duration or 0)
    entries = stream.index_entries
    if container.format.name == MP4 and len(entries) and entries[len(entries) - 1].timestamp < end:
        return float((stream.duration or 0) * _time_base(stream))
    return _measure_seconds(source)


def _measure_seconds(source: Source) -> float:
    """From the first timestamp to the end of the last frame, by all packets."""
    with _open_video(source) as (container, stream):
        # AVI's packets have no times of showing, whatever FFmpeg makes up; their count is in those of decoding.
        is_avi = container.format.name == "avi"
        packets = (packet for packet in container.demux(stream) if not packet.is_discard)
        end = max(((packet.dts if is_avi else packet.pts) or 0) + (packet.duration or 0) for packet in packets)
        return float((end - (stream.start_time or 0)) * _time_base(stream))


def _time_base(stream: VideoStream) -> Fraction:
    if stream.time_base is None:
        raise DecodeError("its timestamps have no unit")
    return stream.time_base


def _to_pts(stream: VideoStream, seconds: float) -> int:
    # A millionth of a tick is added, lest a time on the edge of a frame be rounded into the one before.
    return (stream.start_time or 0) + math.floor(seconds / _time_base(stream) + 1e-6)
