"""Decode the sample of a manifest's row, or read facts about it.

Samples are videos, images and frame folders, in files of their own or in shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cover.datasets.manifest import ManifestRow
from cover.datasets.names import Kind
from cover.errors import DecodeError
from cover.media.animation import AnimationStream, decode_animation, probe_animation
from cover.media.content import Content, content_of
from cover.media.failures import opened
from cover.media.frame_folder import decode_frame_folder, probe_frame_folder
from cover.media.image import decode_image, probe_image
from cover.media.pixels import scale_down
from cover.media.sampling import Sampling, Window
from cover.media.sequential import FrameStream
from cover.media.source import MediaInfo, MediaSource, OpenMedia
from cover.media.video import decode_video, probe_video

Frames = npt.NDArray[np.uint8]


def decode_clip(
    row: ManifestRow,
    kind: Kind,
    num_frames: int,
    *,
    rng: np.random.Generator | None = None,
    window: Window | None = None,
    position: float = 0.5,
    short_side_px: int | None = None,
) -> Frames:
    """Decode the frames of a sample.

    Args:
        row: The sample.
        kind: Whether the dataset is of videos or images.
        num_frames: T of a video; an image has one frame.
        rng: As in Sampling.
        window: As in Sampling.
        position: As in Sampling.
        short_side_px: The short side that is needed. Frames that are larger may come smaller if that saves time, but
            never below it: videos exactly so, JPEGs divided by a power of two, other images unchanged.

    Returns:
        uint8 [T,Y,X,3].

    Raises:
        DecodeError: It cannot be decoded, or a check has found it unreadable; the message names the file.
    """
    (frames,) = decode_clips(
        row, kind, num_frames, rng=rng, window=window, positions=[position], short_side_px=short_side_px
    )
    return frames


def decode_clips(
    row: ManifestRow,
    kind: Kind,
    num_frames: int,
    *,
    num_clips: int = 1,
    rng: np.random.Generator | None = None,
    window: Window | None = None,
    positions: Sequence[float] | None = None,
    short_side_px: int | None = None,
) -> Iterator[Frames]:
    """Decode several clips of a sample, spread over its duration. The file is opened once.

    The other arguments and the errors are those of `decode_clip`.

    Args:
        num_clips: The number of clips. Those of an image are alike.
        positions: Where the window of each clip is (see Sampling); by default from the beginning to the end, a single
            one in the middle.

    Yields:
        uint8 [T,Y,X,3].
    """
    source = MediaSource.of(row)
    if row.readable is False:
        raise DecodeError(
            f"{source} was found unreadable ({row.reason}); replace the file and check it again", row.reason
        )
    if kind == "image":
        yield from repeat(decode_image(source, short_side_px=short_side_px), num_clips)
    else:
        spread = [0.5] if num_clips == 1 else [clip / (num_clips - 1) for clip in range(num_clips)]
        samplings = (
            Sampling(num_frames, row.start_seconds, row.end_seconds, clip, num_clips, rng, window, position)
            for clip, position in enumerate(positions or spread)
        )
        yield from decode_sampled(row, samplings, short_side_px=short_side_px)


def decode_sampled(
    row: ManifestRow, samplings: Iterable[Sampling], *, short_side_px: int | None = None
) -> Iterator[Frames]:
    """Decode frames of a video, however it is stored. The segments are those of `samplings`, not of the row.

    Args:
        row: The sample. The file is opened once.
        samplings: The times of each clip.
        short_side_px: Scale a longer short side down to this.

    Yields:
        uint8 [T,Y,X,3] for each of `samplings`.

    Raises:
        DecodeError: It cannot be decoded or is a still picture; the message names the file.
    """
    if row.is_folder:
        for sampling in samplings:
            frames = decode_frame_folder(row.file, sampling, fps=row.fps, short_side_px=short_side_px)
            yield frames if short_side_px is None else scale_down(frames, short_side_px)
        return
    with opened(MediaSource.of(row)) as media:
        content = _moving(media)
        for sampling in samplings:
            if content.type == "video":
                seconds = row.duration_seconds
                yield decode_video(media, sampling, short_side_px=short_side_px, stored_seconds=seconds)
            else:
                yield decode_animation(media, content, sampling, short_side_px=short_side_px)


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
    if row.is_folder:
        return probe_frame_folder(row.file, fps=row.fps)
    with opened(source) as media:
        content = _moving(media)
        return probe_video(media) if content.type == "video" else probe_animation(media, content)


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
    with opened(source) as media:
        content = _moving(media)
    if content.type == "video":
        return FrameStream(file, step_seconds=step_seconds, short_side_px=short_side_px)
    return AnimationStream(source, content, step_seconds=step_seconds, short_side_px=short_side_px)


def _moving(media: OpenMedia) -> Content:
    """Return what a sample of a video dataset contains. Raises DecodeError for a still picture."""
    content = content_of(media)
    if content.type == "image" and not content.ends_ms:
        raise DecodeError(f"its content is a still picture: {content.name}")
    return content
