"""Which file names count as media, and how splits are called."""

from __future__ import annotations

import os
import re
import unicodedata
from functools import cache
from typing import Literal

Kind = Literal["video", "image"]

# GIF, WebP and APNG are both: in a dataset of videos they are animations, in one of images their first frame counts.
MEDIA_SUFFIXES: dict[str, frozenset[str]] = {
    "video": frozenset(
        {".3g2", ".3gp", ".apng", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m1v", ".m2t", ".m2ts"}
        | {".m2v", ".m4v", ".mkv", ".mod", ".mov", ".mp4", ".mp4v", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf"}
        | {".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".trp", ".ts", ".vob", ".vro", ".webm", ".webp", ".wmv"}
        | {".xvid", ".y4m"}
    ),
    "image": frozenset(
        {".apng", ".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf"}
        | {".jpg", ".jpx", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
    ),
}

_ALL_SUFFIXES = MEDIA_SUFFIXES["video"] | MEDIA_SUFFIXES["image"]

DERIVED_FOLDERS = frozenset(
    {"mask", "masks", "preview", "previews", "segmentation", "segmentations"}
    | {"thumb", "thumbnail", "thumbnails", "thumbs"}
)
"""Names, in lower case, of folders inside class folders that hold what was derived from the samples beside them."""

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Name of a split folder or column value, in lower case → the split's name in a manifest."""

_SPLIT = re.compile(rf"(?:^|[-_.])({'|'.join(SPLIT_NAMES)})(?=[-_.]|$)", re.IGNORECASE)


def split_in(name: str) -> str | None:
    """The split that a name states: "train" of "k400_training-0001", None of "strain"."""
    found = _SPLIT.search(name)
    return SPLIT_NAMES[found[1].lower()] if found else None


@cache
def split_of(folder: str) -> str:
    """The split of what lies in a folder: the first that a part of its path states, else `train`."""
    return next(filter(None, map(split_in, folder.split("/"))), "train")


def suffix_of(name: str) -> str:
    """In lower case: ".jpeg" of "a.JPEG"."""
    return os.path.splitext(name)[1].lower()


def stem_of(name: str) -> str:
    """The name without folders and without a media suffix: "a.b" of "run/a.b.mp4" and of "run/a.b"."""
    base = name.rpartition("/")[2]
    stem, suffix = os.path.splitext(base)
    return stem if suffix.lower() in _ALL_SUFFIXES else base


def is_frame(name: str) -> bool:
    """Whether a file in a folder of frames is one: an image, but not optical flow, which tools write beside them."""
    return suffix_of(name) in MEDIA_SUFFIXES["image"] and not name.startswith(("flow", "x_", "y_"))


def class_name(text: str) -> str:
    """A published class name as manifests have it: `playing_trumpet` and `"playing  trumpet"` are "playing trumpet".

    Underscores become spaces, runs of white space one space; white space and double quotes around it go. Case and
    all other signs stay, so that names like "massaging person's head" and "passing American football (in game)" come
    out as they are published. Only layouts of known datasets do this; `folder` and `csv` keep the names they find.
    """
    return " ".join(composed(text).replace("_", " ").split()).strip('" ')


def composed(text: str) -> str:
    """`text` in Unicode's composed form (NFC); macOS writes names of files in the decomposed one (NFD)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def folder_key(text: str) -> str:
    """What is compared where a folder may be named after a class or split: its letters and digits, in lower case."""
    return "".join(filter(str.isalnum, composed(text))).lower()


def reading_key(text: str) -> str:
    """Equal for names that people read as the same: case, underscores, blanks and invisible signs do not count."""
    visible = (sign for sign in composed(text) if unicodedata.category(sign) != "Cf")
    return composed(" ".join("".join(visible).replace("_", " ").split()).casefold())
