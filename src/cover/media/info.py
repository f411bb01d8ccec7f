"""What a media file says about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MediaInfo:
    """Facts about one sample, in the manifest's terms; None is unknown.

    num_frames: 1 for an image.
    fps: average frame rate.
    width_px, height_px: as shown: upright, with square pixels.
    rotation: degrees counter-clockwise by which decoded frames are turned to be shown: 0, 90, 180 or 270, and 360 more
        if they are mirrored left to right before they are turned.
    """

    num_frames: int | None
    fps: float | None
    duration_seconds: float | None
    width_px: int
    height_px: int
    rotation: int = 0
