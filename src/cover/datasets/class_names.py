"""How classes are called."""

from __future__ import annotations

import unicodedata


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
