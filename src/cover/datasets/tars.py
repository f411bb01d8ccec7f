"""Find the members of uncompressed tars and where their content is, in WebDataset shards and tars of tars, too.

shard.tar                      tar_members(…, with_labels=True)
    000.mp4                    Location("shard/000.mp4", "shard.tar", offset=512, length=…, label="run")
    000.cls with "run" in it
    001.mp4                    Location("shard/001.mp4", "shard.tar", offset=…, length=…, label="jump")
    001.json with {"label": "jump"} in it
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cover.datasets.listing import is_hidden
from cover.datasets.location import Location
from cover.datasets.names import MEDIA_SUFFIXES, SPLIT_NAMES, Kind, split_in, suffix_of
from cover.datasets.notices import Notices, is_utf8
from cover.datasets.webdataset import LABEL_SUFFIXES, key_of, labelled

_MAX_LABEL_BYTES = 2**20
_MAX_DEPTH = 8
_BLOCK = tarfile.BLOCKSIZE


def tar_members(
    root: Path, path: str, kind: Kind, notices: Notices, *, with_labels: bool = False
) -> Iterator[Location]:
    """Yield the videos or images in the tar ROOT/path, in its order, with hard links last.

    Args:
        root: The folder that `path` is relative to.
        path: The path of the tar.
        kind: Which members are wanted.
        notices: Counts members that cannot be addressed, and tars that cannot be read or are damaged.
        with_labels: Whether to read the labels in a WebDataset shard.
    """
    try:
        with (root / path).open("rb") as file:
            tar = _Tar(file, path, kind, notices, with_labels)
            locations = tar.locations(path, 0, os.fstat(file.fileno()).st_size)
            yield from labelled(locations, tar.texts, path, notices) if with_labels else locations
    except OSError as error:
        notices.add(f"tars cannot be read ({error.strerror or error})", path)


class _Tar:
    """An open tar.

    Attributes:
        texts: Key of a sample → suffix → text, of the label files that `locations` has passed.
    """

    def __init__(self, file: BinaryIO, path: str, kind: Kind, notices: Notices, with_labels: bool) -> None:
        self._file, self._path, self._notices = file, path, notices
        self._suffixes = MEDIA_SUFFIXES[kind]
        self._label_suffixes = LABEL_SUFFIXES if with_labels else ()
        self.texts: dict[str, dict[str, str]] = {}

    def locations(self, name: str, start: int, end: int, depth: int = 0) -> Iterator[Location]:
        """Yield the members of the tar between two bytes of the file.

        Args:
            name: The name that the tar would have if all tars were unpacked.
            start: The byte at which it begins.
            end: The byte after it.
            depth: How many tars it lies in.
        """
        linked: dict[str, list[str]] = {}  # name of a member → names of the hard links to it
        try:
            if depth > _MAX_DEPTH:
                raise tarfile.ReadError(f"it lies in {depth} others")
            for member in _members(self._file, start, end):
                yield from self._in_member(member, name, linked, depth)
            if linked:
                yield from self._linked(name, start, end, linked)
        except (tarfile.TarError, ValueError, OverflowError) as error:  # impossible sizes cause the last two
            self._notices.add(
                "tars are damaged or compressed, and what follows in them is left out", f"{name} ({error})"
            )

    def _in_member(
        self, member: tarfile.TarInfo, name: str, linked: dict[str, list[str]], depth: int
    ) -> Iterator[Location]:
        parts = _parts(member.name)
        suffix = suffix_of(member.name)
        is_wanted = suffix in self._suffixes or suffix in self._label_suffixes or suffix == ".tar"
        if member.isdir() or not is_wanted or any(map(is_hidden, parts)):
            return
        member_name = _unpacked(name, parts)
        if not is_utf8(member_name):
            self._notices.add("members of tars with names that are not UTF-8 are left out", member_name)
        elif member.islnk() and suffix in self._suffixes:
            linked.setdefault("/".join(_parts(member.linkname)), []).append(member_name)
        elif not member.isreg():
            self._notices.add("symbolic links, devices and links to labels in tars are left out", member_name)
        elif member.issparse():
            self._notices.add("sparse members of tars are left out; unpack these tars", member_name)
        elif suffix in self._suffixes:
            yield Location(member_name, self._path, member.offset_data, member.size)
        elif suffix == ".tar":
            yield from self.locations(member_name, member.offset_data, member.offset_data + member.size, depth + 1)
        elif member.size <= _MAX_LABEL_BYTES:
            self._keep_text(member, member_name)

    def _keep_text(self, member: tarfile.TarInfo, name: str) -> None:
        self._file.seek(member.offset_data)
        try:
            text = self._file.read(member.size).decode("utf-8-sig")
        except UnicodeDecodeError:
            return
        self.texts.setdefault(key_of(name), {})[suffix_of(name)] = text

    def _linked(self, name: str, start: int, end: int, linked: dict[str, list[str]]) -> Iterator[Location]:
        """Yield the hard links to members. If unpacked, they would be files with the same content."""
        for member in _members(self._file, start, end):
            if member.isreg() and not member.issparse():
                for link in linked.pop("/".join(_parts(member.name)), ()):
                    self._notices.add("hard links in tars are indexed as files of their own", link)
                    yield Location(link, self._path, member.offset_data, member.size)
        for link in (link for links in linked.values() for link in links):
            self._notices.add("hard links in tars to what is not in them are left out", link)


def _members(file: BinaryIO, start: int, end: int) -> Iterator[tarfile.TarInfo]:
    """Yield the members of consecutive archives between two bytes of a file, as `cat a.tar b.tar` makes them.

    Raises tarfile.TarError where an archive is damaged or cut short.
    """
    start = _first_block(file, start, end)
    if start >= end:
        raise tarfile.ReadError("it is empty")
    while start < end:
        file.seek(start)
        tarfile.TarInfo.frombuf(file.read(_BLOCK), "utf-8", "surrogateescape")  # TarFile would end at a bad block
        file.seek(start)
        tar = tarfile.TarFile(fileobj=file, encoding="utf-8")
        while (member := tar.next()) and member.offset < end:
            tar.members.clear()  # type: ignore[attr-defined]  # otherwise a million of them are kept
            if member.offset_data + member.size > end and not member.issparse():
                raise tarfile.ReadError(f"{member.name} is cut short")
            if member.size < 0 or tar.offset <= member.offset:
                raise tarfile.ReadError(f"{member.name} has no size")
            yield member
        start = _first_block(file, tar.offset, end)


def _first_block(file: BinaryIO, start: int, end: int) -> int:
    """Return where the first block that is not all zeros begins, or `end`."""
    file.seek(start)
    while start < end:
        zeros = file.read(min(2**20, end - start))
        if content := zeros.lstrip(b"\0"):
            return start + (len(zeros) - len(content)) // _BLOCK * _BLOCK
        start += len(zeros) or end
    return end


def _parts(name: str) -> list[str]:
    """Return the folders and the file in the name of a member, which lies below where the tar is unpacked."""
    return [part for part in name.split("/") if part not in {"", ".", ".."}]


def _unpacked(tar: str, parts: list[str]) -> str:
    """Return the name that a member has when unpacked.

    It is in the tar's folder if it has folders itself, else in a folder with the name of the tar.
    """
    folder, _, stem = tar.removesuffix(".tar").rpartition("/")
    if len(parts) == 1:
        return f"{tar.removesuffix('.tar')}/{parts[0]}"
    split = split_in(stem) if parts[0].lower() not in SPLIT_NAMES else None
    return "/".join(filter(None, (folder, split, *parts)))
