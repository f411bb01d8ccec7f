"""Where the samples of a dataset lie: files, folders of frames and members of tars, each under a name in folders.

ROOT/train/run/a.mp4                            train/run/a.mp4
ROOT/train/run/b/img_00001.jpg, …               train/run/b        a folder of frames is one video
ROOT/train-0001.tar with run/c.mp4 in it        train/run/c.mp4    as if unpacked
ROOT/train/run.tar with d.mp4 in it             train/run/d.mp4    a tar without folders is a folder itself

Whole folders are listed, and no file is touched by itself: a million files are a few thousand folders.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from cover.catalog.class_names import folder_key
from cover.catalog.place import Place
from cover.catalog.suffixes import MEDIA_SUFFIXES, Kind, is_frame, split_in, stem_of, suffix_of
from cover.catalog.tars import tar_members
from cover.errors import ManifestError
from cover.progress import track

logger = logging.getLogger(__name__)

_PACKED = {".7z", ".bz2", ".gz", ".rar", ".tgz", ".xz", ".zip", ".zst"}


def scan(root: Path, kind: Kind, *, with_labels: bool = False, others: Counter[str] | None = None) -> Iterator[Place]:
    """All videos or images below `root`, folder by folder in alphabetical order, behind a progress bar.

    Hidden files are left out, links to folders are followed.

    with_labels: read the labels that WebDataset shards carry.
    others: counts the files that are neither, by suffix.

    Raises ManifestError when `root` is not a folder.
    """
    if not root.is_dir():
        raise ManifestError(f"{root} is not a folder; give the folder that holds the {kind}s")
    others = Counter() if others is None else others
    yield from track(_scan(root, "", kind, with_labels, others), f"Scanning {root}"[:44])
    if packed := sum(others[suffix] for suffix in _PACKED):
        logger.warning("%s holds %d compressed archives, which are not looked into; unpack them", root, packed)


def _scan(root: Path, below: str, kind: Kind, with_labels: bool, others: Counter[str]) -> Iterator[Place]:
    files, folders = _list(root, below)
    suffixes = [suffix_of(name) for name in files]
    num_frames = 0
    if kind == "video" and below and not folders and MEDIA_SUFFIXES[kind].isdisjoint(suffixes):
        num_frames = sum(map(is_frame, files))
    if num_frames:
        yield Place(below, below, num_frames=num_frames)
        return
    for name, suffix in zip(files, suffixes, strict=True):
        path = _join(below, name)
        if suffix in MEDIA_SUFFIXES[kind]:
            yield Place(path, path)
        elif suffix == ".tar":
            yield from tar_members(root, path, kind, with_labels=with_labels)
        else:
            others[suffix or "no suffix"] += 1
    for folder in folders:
        yield from _scan(root, _join(below, folder), kind, with_labels, others)


def _list(root: Path, below: str) -> tuple[list[str], list[str]]:
    """Names of the files and of the folders in a folder, sorted; none of one that cannot be listed."""
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(os.path.join(root, below)) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    (folders if entry.is_dir() else files).append(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        logger.warning("%s is left out: %s", os.path.join(root, below), error.strerror)
    return sorted(files), sorted(folders)


def _join(below: str, name: str) -> str:
    return f"{below}/{name}" if below else name


class StemFinder:
    """Finds samples by the names of their files, wherever below `root` they lie, in one scan of it."""

    def __init__(self, root: Path, kind: Kind) -> None:
        self._places: dict[str, list[Place]] = {}
        for place in scan(root, kind):
            self._places.setdefault(stem_of(place.name), []).append(place)

    def __len__(self) -> int:
        return len(self._places)

    def find(self, stems: Sequence[str], folders: Sequence[str] = ()) -> Place | None:
        """The file with one of the names `stems`, or None.

        Of several it is the one that lies in most of `folders` (class, split), then that of the first stem, then the
        first in alphabetical order.
        """
        places = [place for stem in stems for place in self._places.get(stem, ())]
        if len(places) < 2:
            return places[0] if places else None
        wanted = {folder_key(folder) for folder in folders}
        return max(places, key=lambda place: _num_shared(place, wanted))


def _num_shared(place: Place, wanted: set[str]) -> int:
    return sum(folder_key(part) in wanted or split_in(part) in wanted for part in place.name.split("/")[:-1])


class PathFinder:
    """Finds samples by their paths, absolute or relative to `root`; only the folders that are asked for are listed."""

    def __init__(self, root: Path, kind: Kind) -> None:
        self._root, self._kind = root, kind
        self._places: dict[str, Place] = {}
        self._folders: set[str] = set()
        self._listed: set[str] = set()

    def find(self, path: str, *, num_frames: int | None = None) -> Place | None:
        """The file, folder of frames, or member of a tar beside or above it, at `path`; None if there is nothing.

        num_frames: of a folder of frames, where it is known, so that they need not be counted.
        """
        path = os.path.normpath(path)
        self._list_folder(os.path.dirname(path))
        if place := self._places.get(path):
            return place
        if path not in self._folders:
            return None
        if num_frames is None:
            num_frames = sum(map(is_frame, _list(self._root, path)[0]))
        return Place(path, path, num_frames=num_frames) if num_frames else None

    def _list_folder(self, folder: str) -> None:
        if folder in self._listed:
            return
        self._listed.add(folder)
        files, folders = _list(self._root, folder)
        self._folders.update(_join(folder, name) for name in folders)
        for path in (_join(folder, name) for name in files):
            self._places[path] = Place(path, path)
            if suffix_of(path) == ".tar":
                self._places.update((place.name, place) for place in tar_members(self._root, path, self._kind))
        if folder and not os.path.isabs(folder):
            self._list_folder(os.path.dirname(folder))
