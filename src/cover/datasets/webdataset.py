"""WebDataset shards: members of a tar whose names are equal up to the first dot are one sample.

0.mp4, 0.cls                     a sample of the class that 0.cls states
0.jpg, 0.seg.png, 0.left.jpg     one picture, 0.jpg; the others belong to it
0.clip.mp4, 0.json               one video of the class that 0.json states: {"label": "run"}, {"label": {"name": "run"}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from cover.datasets.location import Location
from cover.datasets.names import MEDIA_SUFFIXES, split_in, suffix_of
from cover.datasets.notices import Notices

LABEL_SUFFIXES = (".cls", ".label", ".json", ".txt")
"""The suffixes of files that may state a sample's class; the first one that does counts."""

_KEYS = ("label", "class_name", "class", "cls", "category", "target", "label_name", "label_id", "class_id")
_NAME_KEYS = ("name", "label", "class_name", "label_name", "text")
_NUMBER_KEYS = ("id", "index", "label_id", "class_id")
_LONGEST_LABEL = 100  # characters; a longer .txt is a caption
_UNLABELLED = "samples of shards without a label in a .cls, .label, .json or .txt beside them are left out"
_MANY_LABELS = "samples of shards with several labels are left out, since a sample has one"
_NUMBERED = re.compile(r"(?:^|[-_.])(?:0\d{2,}|\d{5,})$")


class Label(NamedTuple):
    """What a file beside a sample says about its class.

    Attributes:
        text: The class.
        number: The number of the class, if the file states both a name and a number.
    """

    text: str
    number: str | None = None


class _ManyLabels(Exception):
    pass


def labelled(
    locations: Iterable[Location], texts: Mapping[str, Mapping[str, str]], tar: str, notices: Notices
) -> Iterator[Location]:
    """Yield the samples among the members of a tar, with their labels if the tar is a WebDataset shard.

    Args:
        locations: The videos or images in the tar.
        texts: Key of a sample → suffix → text of its label files.
        tar: The path of the tar.
        notices: Counts samples without a label, and members that are not samples themselves.
    """
    samples: dict[str, dict[str, Location]] = {}  # key → name → the last member of this name, as unpacking leaves it
    for location in locations:
        samples.setdefault(key_of(location.name), {})[location.name] = location
    found = {key: _label(texts[key]) for key in samples if key in texts}
    if not any(found.values()):
        is_shard = _is_named_like_shard(tar)
        for location in (location for members in samples.values() for location in members.values()):
            if is_shard and location.name.rpartition("/")[0] == tar.removesuffix(".tar"):
                notices.add(_UNLABELLED, location.name)
            else:
                yield location
        return
    for key, members in samples.items():
        sample, *others = sorted(members.values(), key=_rank)
        for other in others:
            notices.add("members of shards that belong to another sample (masks, views) are left out", other.name)
        match found.get(key):
            case Label(text, number):
                yield sample._replace(label=text, label_number=number)
            case reason:
                notices.add(reason or _UNLABELLED, sample.name)


def key_of(name: str) -> str:
    """Return what the names of a sample's members have in common: "run/a" for "run/a.seg.png"."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def _rank(location: Location) -> tuple[bool, bool]:
    """Return a sort key that is smallest for the member that is the sample.

    This is the one with a plain name, and a photo or film rather than a drawing.
    """
    name = location.name.rpartition("/")[2]
    is_film_or_photo = suffix_of(name) in {".jpg", ".jpeg"} | (MEDIA_SUFFIXES["video"] - MEDIA_SUFFIXES["image"])
    return name.count(".") > 1, not is_film_or_photo


def _is_named_like_shard(tar: str) -> bool:
    """Whether a tar has the name of a part of a dataset, train-0001.tar or 00012.tar, and not of a class."""
    stem = tar.removesuffix(".tar").rpartition("/")[2]
    return split_in(stem) is not None or _NUMBERED.search(stem) is not None


def _label(texts: Mapping[str, str]) -> Label | str | None:
    """Return the label in the files beside a sample, or the reason why there is none.

    Without such files, it is None.
    """
    readers = {".json": _in_json, ".txt": _in_caption}
    try:
        found = (readers.get(suffix, _in_text)(texts[suffix]) for suffix in LABEL_SUFFIXES if suffix in texts)
        return next(filter(None, found), None)
    except _ManyLabels:
        return _MANY_LABELS


def _in_text(text: str) -> Label | None:
    words = text.split()
    if len(text.strip().splitlines()) > 1 or (len(words) > 1 and all(word.isdecimal() for word in words)):
        raise _ManyLabels
    return _of_value(text)


def _in_caption(text: str) -> Label | None:
    text = text.strip()
    return _of_value(text) if len(text) <= _LONGEST_LABEL and len(text.splitlines()) == 1 else None


def _in_json(text: str) -> Label | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _of_value(_first(values, _KEYS)) if isinstance(values, dict) else None


def _of_value(value: Any) -> Label | None:
    if isinstance(value, dict):
        name, number = (_of_value(_first(value, keys)) for keys in (_NAME_KEYS, _NUMBER_KEYS))
        return Label(name.text, number.text) if name and number else name or number
    if isinstance(value, list):
        if len(value) > 1:
            raise _ManyLabels
        return _of_value(value[0]) if value else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None else str(value).strip()
    return Label(text) if text and not re.fullmatch(r"-\d+", text) else None  # -1 means no label


def _first(values: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((values[key] for key in keys if values.get(key) is not None), None)
