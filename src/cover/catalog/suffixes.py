"""Which file names count as media, and how split folders are called."""

from __future__ import annotations

from typing import Literal

Kind = Literal["video", "image"]

# GIF and WebP are both: in a dataset of videos they are animations, in one of images their first frame counts.
MEDIA_SUFFIXES: dict[str, frozenset[str]] = {
    "video": frozenset(
        {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
        | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".webp", ".wmv"}
    ),
    "image": frozenset({".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}),
}

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Name of a split folder or column value, in lower case → the split's name in a manifest."""
