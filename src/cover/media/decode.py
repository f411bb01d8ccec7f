"""Decode the sample of a manifest's row, or read facts about it.

Samples are videos, images and frame folders, in files of their own or in shards.
"""

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
    """Decode the frames of a sample.

    Args:
        row: The sample.
        kind: Whether the dataset is of videos or images.
        num_frames: T of a video; an image has one frame.
        clip: As in Sampling.
        num_clips: As in Sampling.
        rng: As in Sampling.
        short_side_px: The short side that is needed. Frames that are larger may come smaller if that saves time, but
            never below it: videos exactly so, JPEGs divided by a power of two, other images unchanged.

    Returns:
        uint8 [T,Y,X,3].

    Raises:
        DecodeError: It cannot be decoded, or a check has found it unreadable; the message names the file.
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
    """Decode frames of a video, however it is stored. The segment is that of `sampling`, not of the row.

    Args:
        row: The sample.
        sampling: The times.
        short_side_px: Scale a longer short side down to this.

    Returns:
        uint8 [T,Y,X,3].

    Raises:
        DecodeError: It cannot be decoded or is a still picture; the message names the file.
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
    """Read the facts about a sample from its file, even if a check has found it unreadable.

    The header and the first frame are read, and all packets of a video whose header does not count its frames. The
    frame rate of a frame folder is that of the row.

    Args:
        row: The sample.
        kind: Whether the dataset is of videos or images.

    Raises:
        DecodeError: It cannot be decoded; the message names the file.
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
    """Return the frames of a video or animation at regular steps, from its beginning to its end.

    Args:
        file: Its path.
        step_seconds: The time between frames; the first one is that at half a step.
        short_side_px: Scale a longer short side down to this.

    Raises:
        DecodeError: The file is missing or a still picture. Iterating raises it if no frame can be decoded.
    """
    source = MediaSource.of(file)
    content = _moving(source)
    if content.type == "video":
        return FrameStream(file, step_seconds=step_seconds, short_side_px=short_side_px)
    return AnimationStream(source, content, step_seconds=step_seconds, short_side_px=short_side_px)


def _moving(source: MediaSource) -> Content:
    """Return what a sample of a video dataset contains. Raises DecodeError for a still picture."""
    content = content_of(source)
    if content.type == "image" and not content.ends_ms:
        with decoding(source):
            raise DecodeError(f"its content is a still picture: {content.name}")
    return content
