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
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from cover.errors import DecodeError
from cover.media.faults import check_frame_size, decoding
from cover.media.info import MediaInfo
from cover.media.playhead import Playhead
from cover.media.sampling import Sampling
from cover.media.source import Source


def probe_video(source: Source | str | Path) -> MediaInfo:
    """Header and first frame of a video. Raises DecodeError, naming the file, when it cannot be decoded."""
    source = Source.of(source)
    with decoding(source), _open_video(source) as (container, stream):
        first = Playhead(container, stream).frame_at(stream.start_time or 0)
        turns = _quarter_turns(first)
        width_px, height_px = (first.height, first.width) if turns % 2 else (first.width, first.height)
        seconds = _duration_seconds(source, stream)
        return MediaInfo(
            stream.frames or None, float(stream.average_rate or 0) or None, seconds, width_px, height_px, 90 * turns
        )


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
        return _to_rgb(_decode_at(source, sampling)[0])


class ShownFrame(NamedTuple):
    """A frame as it was decoded, neither converted nor turned, and when it begins to be shown in its video."""

    begins_seconds: float
    frame: VideoFrame


def decode_shown_frames(source: Source | str | Path, sampling: Sampling) -> list[ShownFrame]:
    """The T frames of decode_video; a frame that is shown at several of the times is the same object there.

    Raises DecodeError, naming the file, for everything that gives no frame.
    """
    source = Source.of(source)
    with decoding(source):
        frames, start_pts = _decode_at(source, sampling)
        return [ShownFrame(float(((frame.pts or 0) - start_pts) * (frame.time_base or 0)), frame) for frame in frames]


def _decode_at(source: Source, sampling: Sampling) -> tuple[list[VideoFrame], int]:
    """The frames, and the timestamp from which times count."""
    start = sampling.start_seconds or 0.0
    with _open_video(source) as (container, stream):
        times = sampling.times_seconds(
            _duration_seconds(source, stream) if sampling.end_seconds is None else sampling.end_seconds
        )
        frames = _frames_at(container, stream, start, times, leaping=True)
        if not frames:
            with _open_video(source) as (container, stream):
                frames = _frames_at(container, stream, start, times, leaping=False)
        return frames, stream.start_time or 0


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


def _duration_seconds(source: Source, stream: VideoStream) -> float:
    """From a header that counts its frames; elsewhere it is a guess, and all packets' timestamps are read instead."""
    if stream.frames and stream.duration:
        return float(stream.duration * _time_base(stream))
    with _open_video(source) as (container, stream):
        ends = ((packet.pts or 0) + (packet.duration or 0) for packet in container.demux(stream))
        return float((max(ends) - (stream.start_time or 0)) * _time_base(stream))


def _time_base(stream: VideoStream) -> Fraction:
    if stream.time_base is None:
        raise DecodeError("its timestamps have no unit")
    return stream.time_base


def _frames_at(
    container: InputContainer,
    stream: VideoStream,
    start_seconds: float,
    times_seconds: Sequence[float],
    *,
    leaping: bool,
) -> list[VideoFrame]:
    """The frames at ascending times from `start_seconds`, in one pass over a freshly opened file.

    leaping: skip what lies between keyframes where that pays; [] if a leap went astray.
    """
    playhead = Playhead(container, stream)
    frames: list[VideoFrame] = []
    for seconds in (start_seconds, *times_seconds):
        pts = _to_pts(stream, seconds)
        if leaping and not playhead.leap(pts):
            return []
        frames.append(playhead.frame_at(pts))
        if len(frames) == 1 and start_seconds > 0 and playhead.is_over(pts):
            raise DecodeError(f"its segment begins at {start_seconds:g} s, after its end")
    return frames[1:]


def _to_pts(stream: VideoStream, seconds: float) -> int:
    # A millionth of a tick is added, lest a time on the edge of a frame be rounded into the one before.
    return (stream.start_time or 0) + math.floor(seconds / _time_base(stream) + 1e-6)


def _to_rgb(frames: Sequence[VideoFrame]) -> npt.NDArray[np.uint8]:
    """Upright RGB, uint8 [T,Y,X,3], all of the size of the first."""
    width_px, height_px = frames[0].width, frames[0].height
    reformatter = VideoReformatter()
    pixels = np.empty((len(frames), height_px, width_px, 3), np.uint8)
    for index, frame in enumerate(frames):
        if index and frame is frames[index - 1]:
            pixels[index] = pixels[index - 1]
        else:
            rgb = reformatter.reformat(frame, width_px, height_px, "rgb24", threads=1)
            pixels[index] = rgb.to_ndarray()
    return np.rot90(pixels, _quarter_turns(frames[0]), axes=(1, 2))


def _quarter_turns(frame: VideoFrame) -> int:
    """Counter-clockwise, 0 to 3."""
    return round(frame.rotation / 90) % 4
