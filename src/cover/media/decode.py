"""Row of a manifest → decoded frames, video and image alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cover.catalog.manifest import ManifestRow
from cover.catalog.suffixes import Kind
from cover.errors import DecodeError
from cover.media.image import decode_image
from cover.media.video import decode_video


def decode_clip(
    row: ManifestRow,
    kind: Kind,
    num_frames: int,
    *,
    clip: int = 0,
    num_clips: int = 1,
    rng: np.random.Generator | None = None,
) -> npt.NDArray[np.uint8]:
    """uint8 [T,Y,X,3] of a sample; T is `num_frames` for a video (arguments as in decode_video) and 1 for an image.

    Raises DecodeError, naming the file; at once for a file that a check has found unreadable.
    """
    if row.readable is False:
        raise DecodeError(f"{row.file} was found unreadable ({row.reason}); replace the file and check it again")
    if kind == "image":
        return decode_image(row.file)
    return decode_video(
        row.file,
        num_frames=num_frames,
        start_seconds=row.start_seconds,
        end_seconds=row.end_seconds,
        clip=clip,
        num_clips=num_clips,
        rng=rng,
    )
