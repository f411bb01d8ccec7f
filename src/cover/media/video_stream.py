"""Which stream of a file is the video, and what decodes it."""

from __future__ import annotations

from av.codec import CodecContext
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from cover.errors import DecodeError
from cover.media.containers import MP4

_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_PICTURE_CODECS = {"bmp", "mjpeg", "png", "tiff", "webp"}
_DECODERS_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these drop the transparency of WebM."""


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
