"""The only place where FFmpeg opens media, what it may open, and which stream is the video."""

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
from cover.media.containers import ANY_METADATA, ASF, MP4, ReadAt, check_alike, check_tracks, joined_files
from cover.media.failures import MAX_FRAME_PX, UnknownFormat, check_frame_size, opened
from cover.media.source import AnySource, OpenMedia

FORMATS = (
    "asf,avi,dv,flv,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mxf,ogg,rm,yuv4mpegpipe,"
    "aac,aiff,flac,mp3,wav"  # so that the message says that they have no video
)
"""FFmpeg's names of the formats that are opened: files that contain their own frames, not playlists or pictures."""

_FILE_OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "", "merge_pmt_versions": "1"}
"""FFmpeg gets a file that is already open, never a name. It must not open anything by itself, whatever a playlist or a
reference to another file asks for. The last option is for broadcasts that continue under other stream numbers; other
formats ignore it.
"""

_LIVE_FORMATS = f"{FORMATS},h264,hevc,live_flv,mjpeg,mpjpeg,nut"
_REMOTE_FORMATS = f"{_LIVE_FORMATS},dash,hls,rtp,rtsp,sap,sdp"
_NETWORK = (
    "crypto,ffrtmphttp,ftp,http,httpproxy,https,mmsh,mmst,rist,rtmp,rtmps,rtmpt,rtmpts,rtp,sctp,srt,srtp,tcp,tls,udp"
)
"""Protocols of live sources. None of them opens a local file, whatever a playlist from the network asks for."""

_LIVE_OPTIONS = {"rtsp_transport": "tcp"}
"""Sources other than RTSP ignore it. With UDP, lost packets would damage frames."""

MAX_FRAMES = 2_500_000
"""The most frames of a file: a day at 25 a second, or 11 hours at 60. A small file can claim more, to keep readers
busy.
"""

_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image

_PICTURE_CODECS = {"bmp", "mjpeg", "png", "tiff", "webp"}

_DECODERS_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these codecs drop the transparency of WebM."""


@dataclass(frozen=True)
class OpenVideo:
    """A video that FFmpeg has opened.

    Attributes:
        container: FFmpeg's container.
        stream: The video stream.
        decoder: Its decoder.
        time_base: The unit of timestamps, in seconds.
        pixel_aspect: The width of a pixel divided by its height.
        read_at: (offset, length) → bytes of the file; None for a live stream.
        is_joined: Whether a second file follows, which the header and index of the first do not describe.
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
        """FFmpeg's name of the container."""
        return self.container.format.name

    @property
    def start_pts(self) -> int:
        """The first timestamp."""
        return self.stream.start_time or 0

    @property
    def stated_seconds(self) -> float | None:
        """The length that the header states."""
        if self.stream.duration is not None:
            return float(self.stream.duration * self.time_base)
        return self.container.duration / 1e6 if self.container.duration is not None else None

    def to_pts(self, seconds: float) -> int:
        """Convert a time in seconds from the beginning of the video to a timestamp."""
        # Adding a millionth of a tick keeps a time on the edge of a frame from being rounded into the previous frame.
        return self.start_pts + math.floor(seconds / self.time_base + 1e-6)

    def missing_duration(self, first_pts: int, last_pts: int, num_frames: int) -> int:
        """Return how long the last frame is shown if its packet does not say: as long as the others on average.

        A single frame is shown until the end that the header states.
        """
        if num_frames > 1:
            return (last_pts - first_pts) // (num_frames - 1)
        stated_end = self.start_pts + round((self.container.duration or 0) / (10**6 * self.time_base))
        return max(stated_end - last_pts, 0)


@contextmanager
def open_video(source: AnySource, *, num_threads: int = 1) -> Iterator[OpenVideo]:
    """Open a video and its stream. Several can be open at a time on the same media.

    Args:
        source: A file, a member of a shard, or open media.
        num_threads: How many threads decode; 0 is one for each CPU.

    Raises:
        DecodeError: The file is not a video, or the block fails; see `opened`.
    """
    with opened(source) as media, _open(media) as container:
        name = container.format.name
        joined = joined_files(media.read_at, name)
        if joined and name in (MP4, ASF):
            raise DecodeError("it consists of several joined files, and only the first would be read; split it")
        if joined:
            check_alike(media.read_at, name, [0, *joined])
        if name == MP4:
            check_tracks(media.read_at)
        yield replace(_opened(container, num_threads), read_at=media.read_at, is_joined=bool(joined))


def _open(media: OpenMedia) -> InputContainer:
    try:
        container: InputContainer = av.open(media.reader(), "r", container_options=_FILE_OPTIONS, **ANY_METADATA)
        return container
    except (av.ArgumentError, av.InvalidDataError) as error:
        if re.fullmatch(rb"[\t\n\f\r -~\x80-\xff]+", media.read_at(0, 512)):
            reason = "it is a text, such as a playlist, and not a media file"
        elif isinstance(error, av.ArgumentError):
            reason = "its format is not supported"
        else:
            reason = str(error.strerror)
        raise UnknownFormat(reason) from error


@contextmanager
def open_live(address: str, *, format: str | None, timeout_seconds: float) -> Iterator[OpenVideo]:
    """Open a stream from the network, a pipe or a device. It also raises whatever FFmpeg raises.

    Args:
        address: A URL, a path or `pipe:`.
        format: FFmpeg's name of the format, for devices.
        timeout_seconds: The time limit for connecting and for each packet.

    Raises:
        DecodeError: There is no video stream that can be decoded.
    """
    is_remote = "://" in address and not address.startswith("file:")
    options = _LIVE_OPTIONS | {
        "format_whitelist": _REMOTE_FORMATS if is_remote else format or _LIVE_FORMATS,
        "protocol_whitelist": _NETWORK if is_remote else "file,pipe",
    }
    with av.open(address, "r", format=format, container_options=options, timeout=timeout_seconds) as container:
        # By slices: with a frame for each thread, as many frames would be delayed.
        yield _opened(container, num_threads=0, thread_type="SLICE")


def _opened(container: InputContainer, num_threads: int, thread_type: str = "AUTO") -> OpenVideo:
    stream = best_video_stream(container)
    if stream.time_base is None:
        raise DecodeError("its timestamps have no unit")
    if len(stream.index_entries) > MAX_FRAMES:
        raise DecodeError(f"it lists {len(stream.index_entries):,} frames; at most {MAX_FRAMES:,} are read")
    check_frame_size(stream.width, stream.height)
    decoder = decoder_of(stream)
    decoder.options = {"max_pixels": str(MAX_FRAME_PX)}  # in case the size changes later
    decoder.thread_count, decoder.thread_type = num_threads, thread_type
    pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
    return OpenVideo(container, stream, decoder, stream.time_base, pixel_aspect)


def best_video_stream(container: InputContainer) -> VideoStream:
    """Return the stream that FFmpeg would play, or the first moving one if that is a picture.

    Raises:
        DecodeError: There is none. Songs have cover pictures, and each picture of a HEIF file is a stream.
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
    """Whether a stream is a cover, a thumbnail or a still picture. Some tools write covers as tracks with one frame."""
    is_cover = stream.frames == 1 and _codec_of(stream) in _PICTURE_CODECS and len(stream.container.streams) > 1
    return is_cover or bool(stream.disposition & _PICTURES) or _is_item(stream)


def _is_item(stream: VideoStream) -> bool:
    """Whether a stream is a picture of a HEIF file (HEIC, AVIF), which FFmpeg shows as a track without times."""
    is_timeless = stream.duration is None and stream.time_base == 1 and stream.frames == 1
    return is_timeless and stream.container.format.name == MP4


def _codec_of(stream: VideoStream) -> str:
    """Return FFmpeg's name of the decoder, or "" if there is none, although PyAV's types say that there always is."""
    return getattr(stream.codec_context, "name", "")


def decoder_of(stream: VideoStream) -> VideoCodecContext:
    """Return the decoder of a stream, not opened yet. It keeps transparency."""
    name = _DECODERS_WITH_ALPHA.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    decoder = CodecContext.create(name, "r")
    assert isinstance(decoder, VideoCodecContext)
    return decoder
