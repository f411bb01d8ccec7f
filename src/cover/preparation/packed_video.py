"""Short copies of videos: few frames, each of them a keyframe, on the video's own axis of time.

    video     |0|1|2|3|4|5|6|7|8|9|…            10 s, 250 frames
    copy      |0      |4      |8      |…         10 s, 64 frames: those shown at 0, 1/64, 2/64, … of the time

At time t the copy shows what the video showed at the last multiple of 1/F of its length: the very frame where t is such
a multiple. The middles of T equal parts are odd multiples of 1/2T. So whoever takes T frames, in C clips, gets exactly
the video's where 2·T·C divides F: with F = 64 for T = 1, 2, 4, 8, 16 and 32. A video of no more than F frames keeps
them all, with their times, and any T is exact.

The copies are MPEG-4 (Part 2) in MP4. Of what every player reads, it was the quickest to decode (benchmarks/pack.py):
H.264 takes twice the time. Its quantiser is as fine for high frequencies as for low ones, so that a step of 2 keeps any
content above 38 dB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from cover.catalog.manifest import ManifestRow
from cover.media.decode import decode_sampled, probe_row
from cover.media.info import MediaInfo
from cover.media.sampling import Sampling
from cover.media.source import Source
from cover.media.video import ShownFrame, decode_shown_frames
from cover.media.webp import is_webp

_ENCODER_OPTIONS = {"qmin": "2", "qmax": "2"}
_TIMES_A_FRAME = 16
"""How closely a short video is searched for frames that are shown for less than others."""
_TICK = Fraction(1, 90_000)
"""Unit of time of copies whose frames are evenly spread."""
_NOMINAL_FPS = Fraction(25)
"""What the encoder is told, because MPEG-4 cannot count in ticks that fine. The container's times are the true ones."""
_FPS_OF_FOLDERS = 25.0
"""Frame rate of a folder of frames whose manifest states none."""


@dataclass(frozen=True)
class ShortClip:
    """Frames, and when each begins and the last one ends to be shown, in units of `time_base` seconds."""

    frames: Sequence[VideoFrame]
    begins: Sequence[int]
    end: int
    time_base: Fraction


@dataclass(frozen=True)
class Beginnings(Sampling):
    """The beginnings of T equal parts of the video or its segment, instead of their middles."""

    def times_seconds(self, duration_seconds: float) -> list[float]:
        start = self.start_seconds or 0.0
        first, *_ = super().times_seconds(duration_seconds)
        part_seconds = 2 * (first - start)
        return [start + part * part_seconds for part in range(self.num_frames)]


def shorten(row: ManifestRow, num_frames: int) -> ShortClip:
    """At most `num_frames` frames of a video or its segment. Raises DecodeError, naming the file."""
    info = probe_row(row, "video")
    if row.file.is_dir() or is_webp(Source.of(row)):
        return _shorten_pictures(row, info, num_frames)
    seconds = (row.end_seconds or info.duration_seconds or 0.0) - (row.start_seconds or 0.0)
    if info.fps and seconds * info.fps <= num_frames:
        shown = _shown_frames(row, num_frames * _TIMES_A_FRAME)
        if len(shown) <= num_frames:
            return _with_own_times(shown, row.start_seconds or 0.0, seconds)
    shown = _shown_frames(row, num_frames)
    if len(shown) < num_frames:
        return _with_own_times(shown, row.start_seconds or 0.0, seconds)
    return _evenly([frame for _, frame in shown], seconds)


def _shorten_pictures(row: ManifestRow, info: MediaInfo, num_frames: int) -> ShortClip:
    """Of a folder of frames, which are evenly spread, or an animated WebP."""
    fps = info.fps or _FPS_OF_FOLDERS
    seconds = (row.end_seconds or (info.num_frames or 1) / fps) - (row.start_seconds or 0.0)
    count = min(num_frames, max(round(seconds * fps), 1)) if row.file.is_dir() else num_frames
    pixels = decode_sampled(row, Beginnings(count, row.start_seconds, row.end_seconds))
    return _evenly([VideoFrame.from_ndarray(frame) for frame in pixels], seconds)


def _shown_frames(row: ManifestRow, num_parts: int) -> list[ShownFrame]:
    """The frames shown at the beginnings of so many parts, each once."""
    shown = decode_shown_frames(Source.of(row), Beginnings(num_parts, row.start_seconds, row.end_seconds))
    return [one for index, one in enumerate(shown) if not index or one.frame is not shown[index - 1].frame]


def _evenly(frames: Sequence[VideoFrame], seconds: float) -> ShortClip:
    # Whole ticks a frame, so that times which are fractions of the length fall on the edges of frames.
    ticks = max(round(seconds / len(frames) / _TICK), 1)
    return ShortClip(frames, [ticks * index for index in range(len(frames))], ticks * len(frames), _TICK)


def _with_own_times(shown: Sequence[ShownFrame], start_seconds: float, seconds: float) -> ShortClip:
    # Parts of the video's own unit, so that its times are whole numbers, and fine enough for segments between them.
    video_ticks = (shown[0].frame.time_base or _TICK).denominator
    tick = Fraction(1, video_ticks * math.ceil(_TICK.denominator / video_ticks))
    begins = [max(math.ceil((begin - start_seconds) / tick - 1e-6), 0) for begin, _ in shown]
    end = max(round(seconds / tick), begins[-1] + 1)
    return ShortClip([frame for _, frame in shown], begins, end, tick)


def write_short_clip(path: Path, clip: ShortClip, short_side_px: int) -> None:
    """Write an MP4 file, its short side brought down to `short_side_px` and both sides to even numbers.

    Raises OSError where it cannot be written, and another FFmpegError where it cannot be encoded.
    """
    first = clip.frames[0]
    reformatter = VideoReformatter()
    ends = [*clip.begins[1:], clip.end]
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = _add_stream(container, clip.time_base)
        stream.width, stream.height = _even_size(first.width, first.height, short_side_px)
        matrix = _tag_colours(stream, first)
        if first.rotation:
            stream.set_display_rotation(first.rotation)
        for index, (frame, begin, end) in enumerate(zip(clip.frames, clip.begins, ends, strict=True)):
            small = reformatter.reformat(
                frame,
                stream.width,
                stream.height,
                "yuv420p",
                dst_colorspace=matrix,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            small.pts, small.time_base, small.pict_type = index, 1 / _NOMINAL_FPS, PictureType.NONE
            for packet in stream.encode(small):
                packet.time_base = clip.time_base
                packet.pts = packet.dts = begin
                packet.duration = end - begin
                container.mux(packet)


def _even_size(width_px: int, height_px: int, short_side_px: int) -> tuple[int, int]:
    """Rounded down, so that nothing is ever enlarged."""
    short = min(width_px, height_px)
    kept = min(short, short_side_px)
    return max(width_px * kept // short // 2 * 2, 2), max(height_px * kept // short // 2 * 2, 2)


def _add_stream(container: OutputContainer, time_base: Fraction) -> VideoStream:
    stream = container.add_stream("mpeg4", rate=_NOMINAL_FPS, options=_ENCODER_OPTIONS)
    assert isinstance(stream, VideoStream)
    stream.pix_fmt, stream.gop_size, stream.time_base = "yuv420p", 0, time_base
    stream.codec_context.thread_count = 1
    return stream


def _tag_colours(stream: VideoStream, frame: VideoFrame) -> int:
    """Give the stream the colour matrix of `frame`, and return it; that of BT.601, which is also what untagged means.

    MP4 stores the matrix only beside the other two tags, which change no pixel here.
    """
    codec, bt709, untagged = stream.codec_context, 1, 2
    is_yuv = frame.format.name.startswith("yuv")
    matrix = frame.colorspace if is_yuv and frame.colorspace != untagged else int(Colorspace.ITU601)
    codec.colorspace, codec.color_range = matrix, ColorRange.MPEG
    codec.color_primaries, codec.color_trc = bt709, bt709
    return matrix
