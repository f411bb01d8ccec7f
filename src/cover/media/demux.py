"""The one place where FFmpeg opens media, and what it may open."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction

import av
from av.codec import CodecContext
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from cover.errors import DecodeError
from cover.media.containers import ASF, MP4, ReadAt, check_alike, check_tracks, joined_files
from cover.media.failures import MAX_FRAME_PX, UnknownFormat, check_frame_size
from cover.media.source import FFmpegInput, MediaSource

FORMATS = (
    "asf,avi,dv,flv,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mxf,ogg,rm,yuv4mpegpipe,"
    "aac,aiff,flac,mp3,wav"  # so that the message can say that they have no video
)
"""FFmpeg's names of what is opened: files that hold their own frames. Playlists and pictures are not among them."""

_FILE_OPTIONS = {"merge_pmt_versions": "1"}
"""A broadcast may go on under other stream numbers. Other formats ignore it."""

_LIVE_FORMATS = f"{FORMATS},h264,hevc,live_flv,mjpeg,mpjpeg,nut"
_REMOTE_FORMATS = f"{_LIVE_FORMATS},dash,hls,rtp,rtsp,sap,sdp"
_NETWORK = (
    "crypto,ffrtmphttp,ftp,http,httpproxy,https,mmsh,mmst,rist,rtmp,rtmps,rtmpt,rtmpts,rtp,sctp,srt,srtp,tcp,tls,udp"
)
"""Protocols of live sources. None opens a file of this machine, whatever a playlist from the network asks for."""

_LIVE_OPTIONS = {"rtsp_transport": "tcp"}
"""Other sources ignore it. With UDP, lost packets would damage frames."""

MAX_FRAMES = 2_500_000
"""Most frames of a file: a day at 25 a second or 11 hours at 60. A small file can claim more, to keep readers busy."""

_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image

_PICTURE_CODECS = {"bmp", "mjpeg", "png", "tiff", "webp"}

_DECODERS_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these drop the transparency of WebM."""


@dataclass(frozen=True)
class OpenVideo:
    """A video that FFmpeg has opened.

    container_name: FFmpeg's name of the container.
    pixel_aspect: width of a pixel divided by its height.
    read_at: (offset, length) → bytes of the file; None for what is live.
    is_joined: a second file follows, which the header and the index of the first do not know.
    """

    container: InputContainer
    stream: VideoStream
    decoder: VideoCodecContext
    time_base: Fraction
    pixel_aspect: Fraction
    read_at: ReadAt | None = None
    is_joined: bool = False

    @property
    def container_name(self) -> str:
        return self.container.format.name

    @property
    def start_pts(self) -> int:
        """The first timestamp."""
        return self.stream.start_time or 0

    def to_pts(self, seconds: float) -> int:
        """`seconds` from the beginning of the video as a timestamp."""
        # A millionth of a tick keeps a time on the edge of a frame from being rounded into the one before.
        return self.start_pts + math.floor(seconds / self.time_base + 1e-6)

    def missing_duration(self, first_pts: int, last_pts: int, num_frames: int) -> int:
        """For how long the last frame is shown where packets do not say: as long as the others on average.

        A single frame is shown until the end that the header states.
        """
        if num_frames > 1:
            return (last_pts - first_pts) // (num_frames - 1)
        stated_end = self.start_pts + round((self.container.duration or 0) / (10**6 * self.time_base))
        return max(stated_end - last_pts, 0)


@contextmanager
def open_video(source: MediaSource, *, num_threads: int = 1) -> Iterator[OpenVideo]:
    """A file and its video stream. num_threads: that decode; 0 is one for each CPU.

    Raises DecodeError for a file that is no video, and whatever FFmpeg raises; for use inside of `decoding`.
    """
    with source.for_ffmpeg() as media, _open(media) as container:
        name = container.format.name
        joined = joined_files(media.read_at, name)
        if joined and name in (MP4, ASF):
            raise DecodeError("it holds several joined files, and only the first would be read")
        if joined:
            check_alike(media.read_at, name, [0, *joined])
        if name == MP4:
            check_tracks(media.read_at)
        yield replace(_opened(container, num_threads), read_at=media.read_at, is_joined=bool(joined))


def _open(media: FFmpegInput) -> InputContainer:
    options = {**media.options, **_FILE_OPTIONS, "format_whitelist": FORMATS}
    try:
        return av.open(media.address, "r", metadata_errors="replace", container_options=options)
    except (av.ArgumentError, av.InvalidDataError) as error:
        if re.fullmatch(rb"[\t\n\f\r -~\x80-\xff]+", media.read_at(0, 512)):
            reason = "it is a text, such as a playlist, and no media file"
        elif isinstance(error, av.ArgumentError):
            reason = "its format is none of those that are decoded"
        else:
            reason = str(error.strerror)
        raise UnknownFormat(reason) from error


@contextmanager
def open_live(address: str, *, format: str | None, timeout_seconds: float) -> Iterator[OpenVideo]:
    """A stream from the network, a pipe or a device. Raises DecodeError and whatever FFmpeg raises.

    format: FFmpeg's name of it, for devices. timeout_seconds: for connecting, and for the next packet.
    """
    is_remote = "://" in address and not address.startswith("file:")
    options = _LIVE_OPTIONS | {
        "format_whitelist": _REMOTE_FORMATS if is_remote else format or _LIVE_FORMATS,
        "protocol_whitelist": _NETWORK if is_remote else "file,pipe",
    }
    with av.open(address, "r", format=format, container_options=options, timeout=timeout_seconds) as container:
        # By slices: threads that have a frame each would hold as many back.
        yield _opened(container, num_threads=0, thread_type="SLICE")


def _opened(container: InputContainer, num_threads: int, thread_type: str = "AUTO") -> OpenVideo:
    stream = best_video_stream(container)
    if stream.time_base is None:
        raise DecodeError("its timestamps have no unit")
    if len(stream.index_entries) > MAX_FRAMES:
        raise DecodeError(f"it lists {len(stream.index_entries):,} frames; at most {MAX_FRAMES:,} are read")
    check_frame_size(stream.width, stream.height)
    decoder = decoder_of(stream)
    decoder.options = {"max_pixels": str(MAX_FRAME_PX)}  # for sizes that change on the way
    decoder.thread_count, decoder.thread_type = num_threads, thread_type
    pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
    return OpenVideo(container, stream, decoder, stream.time_base, pixel_aspect)


def best_video_stream(container: InputContainer) -> VideoStream:
    """The stream that FFmpeg would play, or the first one that moves where that is a picture.

    Raises DecodeError where there is none: songs have covers, and each picture of an HEIF file is a stream.
    """
    videos = [stream for stream in container.streams.video if not _is_picture(stream)]
    if not videos:
        kinds = "a still picture" if any(map(_is_item, container.streams.video)) else "an attached picture"
        raise DecodeError("it has no video stream" + (f", only {kinds}" if container.streams.video else ""))
    moving = [stream for stream in videos if _codec_of(stream) not in _PICTURE_CODECS] or videos
    best = container.streams.best("video")
    stream = next((stream for stream in moving if stream is best), moving[0])
    if not _codec_of(stream):
        raise DecodeError("there is no decoder for its video stream")
    return stream


def _is_picture(stream: VideoStream) -> bool:
    """Whether it is a cover, a thumbnail or a still picture. Some tools write covers as tracks of one frame."""
    is_cover = stream.frames == 1 and _codec_of(stream) in _PICTURE_CODECS and len(stream.container.streams) > 1
    return is_cover or bool(stream.disposition & _PICTURES) or _is_item(stream)


def _is_item(stream: VideoStream) -> bool:
    """Whether it is a picture of an HEIF file (HEIC, AVIF), which FFmpeg shows as a track without any times."""
    is_timeless = stream.duration is None and stream.time_base == 1 and stream.frames == 1
    return is_timeless and stream.container.format.name == MP4


def _codec_of(stream: VideoStream) -> str:
    """FFmpeg's name of its decoder, "" where there is none, although PyAV says that there always is."""
    return getattr(stream.codec_context, "name", "")


def decoder_of(stream: VideoStream) -> VideoCodecContext:
    """The decoder of a stream, not yet opened. It keeps transparency where there is some."""
    name = _DECODERS_WITH_ALPHA.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    decoder = CodecContext.create(name, "r")
    assert isinstance(decoder, VideoCodecContext)
    return decoder
