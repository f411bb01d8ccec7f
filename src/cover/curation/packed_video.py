"""Short copies of videos: few frames, all keyframes, on the video's own time axis.

    video     |0|1|2|3|4|5|6|7|8|9|…            10 s, 250 frames
    copy      |0      |4      |8      |…         10 s, 64 frames: those shown at 0, 1/64, 2/64, … of the time

At time t, the copy shows what the video showed at the last multiple of 1/F of its length; at such a multiple, it shows
exactly that frame. The middles of T equal parts are odd multiples of 1/2T. Sampling T frames in each of C clips
therefore gives exactly the video's frames if 2·T·C divides F: with F = 64, for T = 1, 2, 4, 8, 16 and 32. A video of at
most F frames keeps all of them, with their times, and any T is exact.

The copies are MPEG-4 Part 2 in MP4, which players support, though browsers do not. It was the fastest format to decode
of those tried; H.264 takes twice as long (benchmarks/pack.py). Its quantiser treats high and low frequencies alike, so
PSNR hardly depends on the content: 38 to 40 dB at the second finest step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from cover.datasets.manifest import ManifestRow
from cover.media.animation import decode_shown_pictures
from cover.media.content import content_of
from cover.media.decode import decode_sampled, probe_row
from cover.media.failures import opened
from cover.media.pixels import Orientation, make_pictures, square_size
from cover.media.sampling import Sampling
from cover.media.source import MediaInfo, MediaSource
from cover.media.video import ShownFrame, decode_shown_frames

_ENCODER_OPTIONS = {"qmin": "2", "qmax": "2"}
_TIMES_A_FRAME = 16
"""How finely a short video is searched for frames that are shown for less time than others."""
_TICK = Fraction(1, 90_000)
"""The time unit of copies whose frames are evenly spaced."""
_NOMINAL_FPS = Fraction(25)
"""The frame rate that the encoder is given, because MPEG-4 cannot count such fine ticks. The times in the container are
correct.
"""
_BT709, _UNTAGGED = 1, 2  # FFmpeg's numbers
_FPS_OF_FOLDERS = 25.0
"""The frame rate of a frame folder whose manifest states none."""


class Shrinker:
    """Converts frames to the format of copies, all to the size of the first one.

    Args:
        short_side_px: The largest short side.

    Attributes:
        matrix: The colour matrix of the first frame, as FFmpeg's number.
        orientation: The orientation of the first frame, in which the copy is shown.
    """

    def __init__(self, short_side_px: int) -> None:
        self._short_side_px = short_side_px
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: VideoFrame, pixel_aspect: Fraction = Fraction(1)) -> VideoFrame:
        """Convert a frame.

        Args:
            frame: A decoded frame.
            pixel_aspect: The width of its pixels divided by their height; copies have square pixels.
        """
        if any(component.is_alpha for component in frame.format.components):
            picture = next(make_pictures([frame], pixel_aspect=pixel_aspect))
            frame, pixel_aspect = VideoFrame.from_ndarray(np.ascontiguousarray(picture.rgb)), Fraction(1)
        if self._size is None:
            self._size = _even_size(*square_size(frame, pixel_aspect), self._short_side_px)
            self.matrix = _matrix(frame)
            self.orientation = Orientation.of(frame)
        return self._reformatter.reformat(
            frame, *self._size, "yuv420p", dst_colorspace=self.matrix, dst_color_range=ColorRange.MPEG, threads=1
        )


def _even_size(width_px: int, height_px: int, short_side_px: int) -> tuple[int, int]:
    """Return the size, rounded down to even numbers, so that nothing is enlarged."""
    short = min(width_px, height_px)
    kept = min(short, short_side_px)
    return max(width_px * kept // short // 2 * 2, 2), max(height_px * kept // short // 2 * 2, 2)


def _matrix(frame: VideoFrame) -> int:
    """Return the frame's colour matrix, or BT.601 if it has none, which readers assume for untagged videos."""
    is_tagged = frame.format.name.startswith("yuv") and frame.colorspace != _UNTAGGED
    return frame.colorspace if is_tagged else int(Colorspace.ITU601)


@dataclass(frozen=True)
class ShortClip:
    """Small frames and their times, in units of `time_base` seconds.

    Attributes:
        frames: The frames.
        begins: When each frame begins to be shown.
        end: When the last frame ends.
        time_base: The unit, in seconds.
        matrix: As in Shrinker.
        orientation: As in Shrinker.
    """

    frames: Sequence[VideoFrame]
    begins: Sequence[int]
    end: int
    time_base: Fraction
    matrix: int
    orientation: Orientation


@dataclass(frozen=True)
class Beginnings(Sampling):
    """Samples the beginnings of T equal parts of the video or its segment, instead of their middles."""

    def times_seconds(self, duration_seconds: float, fps: float | None = None) -> list[float]:
        start = self.start_seconds or 0.0
        first, *_ = super().times_seconds(duration_seconds)
        part_seconds = 2 * (first - start)
        return [start + part * part_seconds for part in range(self.num_frames)]


def shorten(row: ManifestRow, num_frames: int, short_side_px: int) -> ShortClip:
    """Return a short version of a video or of its segment.

    Args:
        row: The sample.
        num_frames: The most frames to keep.
        short_side_px: The largest short side.

    Raises:
        DecodeError: It cannot be decoded; the message names the file.
    """
    info = probe_row(row, "video")
    shrink = Shrinker(short_side_px)
    if row.is_folder:
        return _shorten_folder(row, info, num_frames, shrink)
    start = row.start_seconds or 0.0
    seconds = (row.end_seconds or info.duration_seconds or 0.0) - start
    if info.fps and seconds * info.fps <= num_frames:
        shown = _shown_frames(row, num_frames * _TIMES_A_FRAME, shrink)
        if len(shown) <= num_frames:
            return _with_own_times(shown, start, seconds, shrink)
    shown = _shown_frames(row, num_frames, shrink)
    if len(shown) < num_frames:
        return _with_own_times(shown, start, seconds, shrink)
    return _evenly([one.frame for one in shown], seconds, shrink)


def _shorten_folder(row: ManifestRow, info: MediaInfo, num_frames: int, shrink: Shrinker) -> ShortClip:
    """Shorten a frame folder, whose frames are evenly spaced."""
    fps = info.fps or _FPS_OF_FOLDERS
    seconds = (row.end_seconds or (info.num_frames or 1) / fps) - (row.start_seconds or 0.0)
    count = min(num_frames, max(round(seconds * fps), 1))
    (pixels,) = decode_sampled(row, [Beginnings(count, row.start_seconds, row.end_seconds)])
    return _evenly([shrink(VideoFrame.from_ndarray(frame)) for frame in pixels], seconds, shrink)


def _shown_frames(row: ManifestRow, num_parts: int, shrink: Shrinker) -> list[ShownFrame]:
    """Return the frames shown at the beginnings of `num_parts` equal parts, each once."""
    source, sampling = MediaSource.of(row), Beginnings(num_parts, row.start_seconds, row.end_seconds)
    with opened(source) as media:
        content = content_of(media)
        if content.type == "video":
            return decode_shown_frames(media, sampling, shrink)
        return [
            ShownFrame(shrink(VideoFrame.from_ndarray(picture)), Fraction(begin_ms, 1000), end_ms)
            for picture, begin_ms, end_ms in decode_shown_pictures(media, content, sampling)
        ]


def _evenly(frames: Sequence[VideoFrame], seconds: float, shrink: Shrinker) -> ShortClip:
    # A whole number of ticks for each frame, so that fractions of the length fall on the edges of frames.
    ticks = max(round(seconds / len(frames) / _TICK), 1)
    begins = [ticks * index for index in range(len(frames))]
    return ShortClip(frames, begins, ticks * len(frames), _TICK, shrink.matrix, shrink.orientation)


def _with_own_times(shown: Sequence[ShownFrame], start: float, seconds: float, shrink: Shrinker) -> ShortClip:
    # A fraction of the video's own unit, so that its times are whole numbers, and fine enough for segments.
    unit = math.lcm(*(one.begins_seconds.denominator for one in shown))
    tick = Fraction(1, unit * math.ceil(_TICK.denominator / unit))
    begins = [max(math.ceil((one.begins_seconds - start) / tick - 1e-6), 0) for one in shown]
    end = max(round(seconds / tick), begins[-1] + 1)
    return ShortClip([one.frame for one in shown], begins, end, tick, shrink.matrix, shrink.orientation)


def write_short_clip(path: Path, clip: ShortClip) -> None:
    """Write an MP4 file.

    Raises:
        OSError: The file cannot be written.
        av.FFmpegError: The clip cannot be encoded.
    """
    ends = [*clip.begins[1:], clip.end]
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = _add_stream(container, clip)
        for index, (frame, begin, end) in enumerate(zip(clip.frames, clip.begins, ends, strict=True)):
            frame.pts, frame.time_base, frame.pict_type = index, 1 / _NOMINAL_FPS, PictureType.NONE
            for packet in stream.encode(frame):
                packet.time_base = clip.time_base
                packet.pts = packet.dts = begin
                packet.duration = end - begin
                container.mux(packet)


def _add_stream(container: OutputContainer, clip: ShortClip) -> VideoStream:
    stream = container.add_stream("mpeg4", rate=_NOMINAL_FPS, options=_ENCODER_OPTIONS)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = clip.frames[0].width, clip.frames[0].height, "yuv420p"
    stream.gop_size, stream.time_base = 0, clip.time_base
    if clip.orientation != Orientation():
        stream.set_display_matrix(clip.orientation.display_matrix)
    codec = stream.codec_context
    codec.thread_count = 1
    codec.colorspace, codec.color_range = clip.matrix, ColorRange.MPEG
    # MP4 stores the matrix only together with these two, which change no pixel here.
    codec.color_primaries = codec.color_trc = _BT709
    return stream
