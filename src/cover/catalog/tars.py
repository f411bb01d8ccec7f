"""Members of uncompressed tars, WebDataset shards and tars of tars included, by the bytes where their content lies.

shard.tar                      tar_members(…, with_labels=True)
    000.mp4                    Place("shard/000.mp4", "shard.tar", offset=512, length=…, label="run")
    000.cls with "run" in it
    001.mp4                    Place("shard/001.mp4", "shard.tar", offset=…, length=…, label="jump")
    001.json with {"label": "jump"} in it
"""

from __future__ import annotations

import json
import logging
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cover.catalog.place import Place
from cover.catalog.suffixes import MEDIA_SUFFIXES, SPLIT_NAMES, Kind, split_in, suffix_of

logger = logging.getLogger(__name__)

_LABEL_SUFFIXES = (".cls", ".json", ".txt")
_JSON_KEYS = ("label", "class_name", "class", "cls")


def tar_members(root: Path, path: str, kind: Kind, *, with_labels: bool = False) -> Iterator[Place]:
    """The videos or images in the tar ROOT/path, in its order; with_labels: and the labels that lie beside them.

    What follows a damaged or cut place of a tar is left out, with a warning.
    """
    with (root / path).open("rb") as file:
        labels: dict[str, dict[str, str]] = {}
        places = _members(file, path, path, kind, labels if with_labels else None)
        if not with_labels:
            yield from places
            return
        for place in list(places):
            yield place._replace(label=_label(labels.get(os.path.splitext(place.name)[0], {})))


def _members(
    file: BinaryIO, path: str, name: str, kind: Kind, labels: dict[str, dict[str, str]] | None
) -> Iterator[Place]:
    """Members of the tar that begins where `file` stands and would be called `name` if it lay in a folder."""
    size = os.fstat(file.fileno()).st_size
    try:
        tar = tarfile.TarFile(fileobj=file)
        while member := tar.next():
            tar.members.clear()  # type: ignore[attr-defined]  # or a million of them are kept
            offset, suffix = member.offset_data, suffix_of(member.name)
            if not member.isreg() or member.name.rpartition("/")[2].startswith("."):
                continue
            if offset + member.size > size:
                raise tarfile.ReadError(f"{member.name} is cut short")
            member_name = _unpacked(name, member.name.removeprefix("./"))
            if suffix in MEDIA_SUFFIXES[kind]:
                yield Place(member_name, path, offset, member.size)
            elif suffix == ".tar":
                file.seek(offset)
                yield from _members(file, path, member_name, kind, labels)
            elif labels is not None and suffix in _LABEL_SUFFIXES:
                file.seek(offset)
                text = file.read(member.size).decode(errors="replace")
                labels.setdefault(os.path.splitext(member_name)[0], {})[suffix] = text
    except tarfile.TarError as error:
        logger.warning("%s is damaged or compressed (%s); copy it again, or unpack it", name, error)


def _unpacked(tar: str, member: str) -> str:
    """Name of a member: in the tar's folder if it has folders itself, else in a folder that is called as the tar."""
    folder, _, stem = tar.removesuffix(".tar").rpartition("/")
    if "/" not in member:
        return f"{tar.removesuffix('.tar')}/{member}"
    split = split_in(stem) if member.split("/")[0].lower() not in SPLIT_NAMES else None
    return "/".join(part for part in (folder, split, member) if part)


def _label(texts: dict[str, str]) -> str | None:
    """The label among the files beside a sample: suffix → text."""
    if ".cls" in texts:
        return texts[".cls"].strip()
    if ".json" in texts and (label := _label_in_json(texts[".json"])) is not None:
        return label
    return texts[".txt"].strip() if ".txt" in texts else None


def _label_in_json(text: str) -> str | None:
    try:
        values = json.loads(text)
    except ValueError:
        return None
    found = (values[key] for key in _JSON_KEYS if key in values) if isinstance(values, dict) else iter(())
    label = next(found, None)
    return None if label is None else str(label)
