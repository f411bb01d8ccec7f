"""The one place where FFmpeg opens media: what it may open, and which stream of it is the video."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.codec import CodecContext
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from cover.errors import DecodeError
from cover.media.faults import MAX_FRAME_PX, UnknownFormat, check_frame_size
from cover.media.source import FFmpegInput, Source
from cover.media.structure import AVI, MP4, ReadAt, check_tracks, is_joined

FORMATS = (
    "asf,avi,dv,flv,gif,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mxf,ogg,rm,yuv4mpegpipe,"
    "aac,aiff,flac,mp3,wav"  # so that the message can say that they have no video
)
"""FFmpeg's names of what is opened: files that hold their own frames. Playlists and pictures are not among them."""

_FILE_OPTIONS = {"merge_pmt_versions": "1"}
"""A broadcast may go on under other stream numbers. Other formats ignore it."""

_LIVE_FORMATS = f"{FORMATS},dash,hls,live_flv,mjpeg,mpjpeg,rtp,rtsp,sap,sdp"
_NETWORK = (
    "crypto,ffrtmphttp,ftp,http,httpproxy,https,mmsh,mmst,rist,rtmp,rtmps,rtmpt,rtmpts,rtp,sctp,srt,srtp,tcp,tls,udp"
)
"""Protocols of live sources. None opens a file of this machine, whatever a playlist from the network asks for."""

_LIVE_OPTIONS = {"rtsp_transport": "tcp"}
"""Other sources ignore it. With UDP, lost packets would damage frames."""

MAX_FRAMES = 2_500_000
"""Most frames of a file: a day at 25 a second or 11 hours at 60. A small file can claim more, to keep readers busy."""

_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_PICTURE_CODECS = {"bmp", "gif", "mjpeg", "png", "tiff", "webp"}
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


@contextmanager
def open_video(source: Source, *, num_threads: int = 1) -> Iterator[OpenVideo]:
    """A file and its video stream. num_threads: that decode; 0 is one for each CPU.

    Raises DecodeError for a file that is no video, and whatever FFmpeg raises; for use inside of `decoding`.
    """
    with source.for_ffmpeg() as media, _open(media) as container:
        name = container.format.name
        has_second = is_joined(media.read_at, name)
        if has_second and name != AVI:
            raise DecodeError("it is several files, one behind the other, of which only the first would be read")
        if name == MP4:
            check_tracks(media.read_at)
        yield replace(_opened(container, num_threads), read_at=media.read_at, is_joined=has_second)


def _open(media: FFmpegInput) -> InputContainer:
    options = {**media.options, **_FILE_OPTIONS, "format_whitelist": FORMATS}
    try:
        return av.open(media.address, "r", metadata_errors="replace", container_options=options)
    except (av.ArgumentError, av.InvalidDataError) as error:
        if re.fullmatch(rb"[\t\n\f\r -~\x80-\xff]+", media.read_at(0, 512)):
            reason = "it is a text, such as a playlist; only files that hold the frames themselves are decoded"
        elif isinstance(error, av.ArgumentError):
            reason = "its format is none of those that are decoded"
        else:
            reason = str(error.strerror)
        raise UnknownFormat(reason) from error


@contextmanager
def open_live(address: str, *, format: str | None, timeout_seconds: float) -> Iterator[OpenVideo]:
    """A stream from the network, a device, or a file. Raises DecodeError and whatever FFmpeg raises.

    format: FFmpeg's name of it, for devices. timeout_seconds: for connecting, and for the next packet.

    What the user names is opened, and what that refers to in the network, but no other file.
    """
    options = _LIVE_OPTIONS | {"format_whitelist": format or _LIVE_FORMATS}
    with ExitStack() as stack:
        if Path(address).is_file():
            media = stack.enter_context(Source.of(address).for_ffmpeg())
            opened: str | BinaryIO = media.address
            options |= {**media.options, "protocol_whitelist": f"fd,{_NETWORK}"}
        else:
            opened = address
            is_remote = "://" in address and not address.startswith("file:")
            options["protocol_whitelist"] = _NETWORK if is_remote else "file,pipe"
        container = av.open(opened, "r", format=format, container_options=options, timeout=timeout_seconds)
        yield _opened(stack.enter_context(container), num_threads=1)


def _opened(container: InputContainer, num_threads: int) -> OpenVideo:
    stream = best_video_stream(container)
    if stream.time_base is None:
        raise DecodeError("its timestamps have no unit")
    if len(stream.index_entries) > MAX_FRAMES:
        raise DecodeError(f"it lists {len(stream.index_entries):,} frames; at most {MAX_FRAMES:,} are read")
    check_frame_size(stream.width, stream.height)
    decoder = _decoder_of(stream)
    decoder.options = {"max_pixels": str(MAX_FRAME_PX)}  # for sizes that change on the way
    decoder.thread_count, decoder.thread_type = num_threads, "AUTO"
    pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
    return OpenVideo(container, stream, decoder, stream.time_base, pixel_aspect)


def _decoder_of(stream: VideoStream) -> VideoCodecContext:
    name = _DECODERS_WITH_ALPHA.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    decoder = CodecContext.create(name, "r")
    assert isinstance(decoder, VideoCodecContext)
    return decoder


def best_video_stream(container: InputContainer) -> VideoStream:
    """The stream that FFmpeg would play, or the first one where that is a picture.

    Raises DecodeError where there is no other: songs have covers, and each picture of an HEIF file is a stream.
    """
    videos = [stream for stream in container.streams.video if not _is_picture(stream)]
    if not videos:
        kinds = "a still picture" if any(map(_is_item, container.streams.video)) else "an attached picture"
        raise DecodeError("it has no video stream" + (f", only {kinds}" if container.streams.video else ""))
    best = container.streams.best("video")
    stream = next((video for video in videos if video is best), videos[0])
    if stream.codec_context is None:  # typed as if there always were one
        raise DecodeError("there is no decoder for its video stream")
    return stream


def _is_picture(stream: VideoStream) -> bool:
    """Whether it is a cover, a thumbnail or a still picture. Some tools write covers as tracks of one frame."""
    codec = getattr(stream.codec_context, "name", None)
    is_cover = stream.frames == 1 and codec in _PICTURE_CODECS and len(stream.container.streams) > 1
    return is_cover or bool(stream.disposition & _PICTURES) or _is_item(stream)


def _is_item(stream: VideoStream) -> bool:
    """Whether it is a picture of an HEIF file (HEIC, AVIF), which FFmpeg shows as a track without any times."""
    is_timeless = stream.duration is None and stream.time_base == 1 and stream.frames == 1
    return is_timeless and stream.container.format.name == MP4
