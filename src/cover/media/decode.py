"""Row of a manifest → decoded frames, or facts about them: videos, images, folders of frames, wherever they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from cover.datasets.manifest import ManifestRow
from cover.datasets.names import Kind
from cover.errors import DecodeError
from cover.media.animation import AnimationStream, decode_animation, probe_animation
from cover.media.content import Content, content_of
from cover.media.failures import decoding
from cover.media.frame_folder import decode_frame_folder, probe_frame_folder
from cover.media.image import decode_image, probe_image
from cover.media.pixels import scale_down
from cover.media.sampling import Sampling
from cover.media.sequential import FrameStream
from cover.media.source import MediaInfo, MediaSource
from cover.media.video import decode_video, probe_video


def decode_clip(
    row: ManifestRow,
    kind: Kind,
    num_frames: int,
    *,
    clip: int = 0,
    num_clips: int = 1,
    rng: np.random.Generator | None = None,
    short_side_px: int | None = None,
) -> npt.NDArray[np.uint8]:
    """uint8 [T,Y,X,3] of a sample; T is `num_frames` for a video (arguments as in Sampling) and 1 for an image.

    short_side_px: what is needed of the short side. Larger frames may come smaller, where that saves time, but never
    below it: videos exactly so, JPEGs by a power of two, other images as they are.

    Raises DecodeError, naming the file; at once for a file that a check has found unreadable.
    """
    source = MediaSource.of(row)
    if row.readable is False:
        raise DecodeError(
            f"{source} was found unreadable ({row.reason}); replace the file and check it again", row.reason
        )
    if kind == "image":
        return decode_image(source, short_side_px=short_side_px)
    sampling = Sampling(num_frames, row.start_seconds, row.end_seconds, clip, num_clips, rng)
    return decode_sampled(row, sampling, short_side_px=short_side_px)


def decode_sampled(row: ManifestRow, sampling: Sampling, *, short_side_px: int | None = None) -> npt.NDArray[np.uint8]:
    """uint8 [T,Y,X,3] of a video, whatever it is kept as; the segment is the sampling's, not the row's.

    Raises DecodeError, naming the file, also for a picture that does not move.
    """
    if row.file.is_dir():
        frames = decode_frame_folder(row.file, sampling, fps=row.fps, short_side_px=short_side_px)
        return frames if short_side_px is None else scale_down(frames, short_side_px)
    source = MediaSource.of(row)
    content = _moving(source)
    if content.type == "video":
        return decode_video(source, sampling, short_side_px=short_side_px)
    return decode_animation(source, content, sampling, short_side_px=short_side_px)


def probe_row(row: ManifestRow, kind: Kind) -> MediaInfo:
    """What the sample's file says about itself, whatever a check has found before.

    The header and the first frame are read; of a video whose header does not count its frames, all packets. A folder
    of frames has the frame rate that the row states. Raises DecodeError, naming the file.
    """
    source = MediaSource.of(row)
    if kind == "image":
        return probe_image(source)
    if row.file.is_dir():
        return probe_frame_folder(row.file, fps=row.fps)
    content = _moving(source)
    return probe_video(source) if content.type == "video" else probe_animation(source, content)


def stream_frames(
    file: Path, *, step_seconds: float, short_side_px: int | None = None
) -> FrameStream | AnimationStream:
    """The frames of a video or animation at even steps of time, from its beginning to its end.

    Args:
        file: Its path.
        step_seconds: From one frame to the next; the first is shown at half of it.
        short_side_px: What a longer short side is scaled down to.

    Raises:
        DecodeError: It is missing, or a picture without frames; iterating raises it where no frame can be decoded.
    """
    source = MediaSource.of(file)
    content = _moving(source)
    if content.type == "video":
        return FrameStream(file, step_seconds=step_seconds, short_side_px=short_side_px)
    return AnimationStream(source, content, step_seconds=step_seconds, short_side_px=short_side_px)


def _moving(source: MediaSource) -> Content:
    """What a sample of a dataset of videos is. Raises DecodeError for a picture without frames."""
    content = content_of(source)
    if content.type == "image" and not content.ends_ms:
        with decoding(source):
            raise DecodeError(f"its content is a still picture: {content.name}")
    return content
