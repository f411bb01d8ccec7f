"""How classes are called."""

from __future__ import annotations

from collections.abc import Iterable


def class_name(text: str) -> str:
    """A published class name as manifests have it: `playing_trumpet` and `"playing  trumpet"` are "playing trumpet".

    Underscores become spaces, runs of white space one space; white space and double quotes around it go. Case and
    all other signs stay, so that names like "massaging person's head" and "passing American football (in game)" come
    out as they are published. Only layouts of known datasets do this; `folder` and `csv` keep the names they find.
    """
    return " ".join(text.replace("_", " ").split()).strip('" ')


def folder_key(text: str) -> str:
    """What is compared where a folder may be named after a class or split: its letters and digits, in lower case."""
    return "".join(filter(str.isalnum, text)).lower()


def names_of(labels: Iterable[str]) -> list[str]:
    """The class names, in label order, of labels that come without a class list: as they are, sorted; numbers from 0
    to the largest one. Empty for a negative number alone."""
    distinct = set(labels)
    if all(is_number(label) for label in distinct):
        return [str(label) for label in range(max(map(int, distinct)) + 1)]
    return sorted(distinct)


def is_number(label: str) -> bool:
    """Whether a label is an integer."""
    return label.removeprefix("-").isdecimal()
