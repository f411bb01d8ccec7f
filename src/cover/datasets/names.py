"""What the names of files, folders, splits and classes mean."""

from __future__ import annotations

import os
import re
import unicodedata
from functools import cache
from typing import Literal

Kind = Literal["video", "image"]

# GIF, WebP and APNG are both: a dataset of videos reads them as animations, one of images reads their first frame.
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
"""Names, in lower case, of folders inside class folders with files that were derived from the samples beside them."""

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
"""The name of a split folder or column value, in lower case → the name of the split in a manifest."""

RENAMED_CLASSES = {
    "balloon blowing": "inflating balloons",
    "changing wheel": "changing wheel (not on bike)",
    "cooking sausages": "cooking sausages (not on barbeque)",
    "drinking": "sipping cup",
    "dying hair": "dyeing hair",
    "garbage collecting": "person collecting garbage",
    "hugging": "hugging (not baby)",
    "making bed": "making the bed",
    "opening bottle": "opening bottle (not wine)",
    "picking fruit": "picking apples",
    "skiing (not slalom or crosscountry)": "skiing mono",
    "sniffing": "smelling feet",
    "throwing ball": "throwing ball (not baseball or American football)",
    "tying tie": "tying necktie",
}
"""Classes of Kinetics-400 and -600 → their names in Kinetics-700."""

_SPLIT = re.compile(rf"(?:^|[-_.])({'|'.join(SPLIT_NAMES)})(?=[-_.]|$)", re.IGNORECASE)


def split_in(name: str) -> str | None:
    """Return the split that a name states: "train" for "k400_training-0001", None for "strain"."""
    found = _SPLIT.search(name)
    return SPLIT_NAMES[found[1].lower()] if found else None


@cache
def split_of(folder: str) -> str:
    """Return the split of what lies in a folder: the first one that its path states, or `train`."""
    return next(filter(None, map(split_in, folder.split("/"))), "train")


def suffix_of(name: str) -> str:
    """Return the suffix in lower case: ".jpeg" for "a.JPEG"."""
    return os.path.splitext(name)[1].lower()


def stem_of(name: str) -> str:
    """Return the name without folders and without a media suffix: "a.b" for "run/a.b.mp4" and for "run/a.b"."""
    base = name.rpartition("/")[2]
    stem, suffix = os.path.splitext(base)
    return stem if suffix.lower() in _ALL_SUFFIXES else base


def is_frame(name: str) -> bool:
    """Whether a file in a folder of frames is a frame.

    It is if it is an image but not optical flow, which tools write beside the frames.
    """
    return suffix_of(name) in MEDIA_SUFFIXES["image"] and not name.startswith(("flow", "x_", "y_"))


def class_name(text: str) -> str:
    """Return a published class name as manifests have it.

    It is "playing trumpet" for `playing_trumpet` and `"playing  trumpet"`: underscores become spaces, runs of white
    space become one space, and white space and double quotes around the name are removed. Case and all other characters
    stay, so names such as "massaging person's head" and "passing American football (in game)" come out as they are
    published. Only layouts of known datasets use this; `folder` and `csv` keep names as they are.
    """
    return " ".join(composed(text).replace("_", " ").split()).strip('" ')


def composed(text: str) -> str:
    """Return the text in Unicode's composed form (NFC). macOS writes file names in the decomposed form (NFD)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def folder_key(text: str) -> str:
    """Return what is compared where a folder may be named after a class or split: letters and digits in lower case."""
    return "".join(filter(str.isalnum, composed(text))).lower()


def reading_key(text: str) -> str:
    """Return a key that is equal for names that people read as the same.

    It ignores case, underscores, blanks and invisible characters.
    """
    visible = (char for char in composed(text) if unicodedata.category(char) != "Cf")
    return composed(" ".join("".join(visible).replace("_", " ").split()).casefold())
