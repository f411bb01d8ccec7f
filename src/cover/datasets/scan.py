"""Where the samples of a dataset are: files, frame folders and members of tars, each under a name in folders.

ROOT/train/run/a.mp4                            train/run/a.mp4
ROOT/train/run/b/img_00001.jpg, …               train/run/b        a folder of frames is one video
ROOT/train-0001.tar with run/c.mp4 in it        train/run/c.mp4    as if unpacked
ROOT/train/run.tar with d.mp4 in it             train/run/d.mp4    a tar without folders is a folder itself

Whole folders are listed and no file is touched by itself, so a million files are only a few thousand operations. What
is left out is counted, with a warning for each reason.
"""

from __future__ import annotations

import logging
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from cover.core.progress import track
from cover.datasets.listing import Folders, join
from cover.datasets.location import Location
from cover.datasets.names import DERIVED_FOLDERS, MEDIA_SUFFIXES, Kind, is_frame, suffix_of
from cover.datasets.notices import Notices, shown
from cover.datasets.tars import tar_members
from cover.errors import ManifestError

logger = logging.getLogger(__name__)

_PACKED = {".7z", ".bz2", ".gz", ".rar", ".tgz", ".xz", ".zip", ".zst"}


class HardLinks:
    """Finds files that are one file on disk under several names, by their inodes.

    Listing a folder gives the inodes without looking at the files themselves. Each file takes 16 bytes and its path.
    """

    def __init__(self) -> None:
        self._inodes = array("Q")
        self._paths: list[str] = []

    def add(self, path: str, inode: int) -> None:
        """Add a file."""
        self._inodes.append(inode)
        self._paths.append(path)

    def groups(self) -> list[list[str]]:
        """Return the paths that share an inode, ordered by the first path of each group.

        On different devices, they may be different files.
        """
        inodes = np.array(self._inodes, np.uint64)
        values, counts = np.unique(inodes, return_counts=True)
        groups: dict[int, list[str]] = {}
        for index in np.flatnonzero(np.isin(inodes, values[counts > 1])):
            groups.setdefault(int(inodes[index]), []).append(self._paths[index])
        return list(groups.values())


@dataclass
class Scan:
    """One pass over all videos or images below `root`, and what else there was.

    Iterating raises ManifestError if `root` is not a folder.

    Attributes:
        root: The folder of the dataset.
        kind: What the files are.
        with_labels: Whether to read the labels in WebDataset shards.
        once: Whether to leave out links to files that are there themselves.
        others: Counts the files that are neither media nor tars, by suffix.
        without: Folder without samples → suffixes of its files.
        notices: What was left out or found odd.
        hard_links: Finds files that are the same on disk.
    """

    root: Path
    kind: Kind
    with_labels: bool = False
    once: bool = True
    others: Counter[str] = field(default_factory=Counter)
    without: dict[str, Counter[str]] = field(default_factory=dict)
    notices: Notices = field(default_factory=Notices)
    hard_links: HardLinks = field(default_factory=HardLinks)

    def __iter__(self) -> Iterator[Location]:
        """Yield the samples, folder by folder in alphabetical order, behind a progress bar.

        Raises:
            ManifestError: `root` is not a folder.
        """
        if not self.root.is_dir():
            raise ManifestError(f"{self.root} is not a folder; give the folder that contains the {self.kind}s")
        yield from track(self._locations(), f"Scanning {shown(str(self.root))}"[:44])
        if packed := sum(self.others[suffix] for suffix in _PACKED):
            message = "%s contains %d compressed archives, which are not read; unpack them"
            logger.warning(message, self.root, packed)

    def _locations(self) -> Iterator[Location]:
        once: tuple[Literal["files", "folders"], ...] = ("files", "folders") if self.once else ("folders",)
        listing = Folders(self.root, self.kind, self.notices, once=once)
        waiting = [""]
        while waiting:
            below = waiting.pop()
            files, folders = listing.list(below)
            locations = self._in_folder(below, files, folders, listing.inodes)
            first = next(locations, None)
            if first is None:
                self.without[below] = Counter(suffix_of(name) or "no suffix" for name in files)
            else:
                yield first
                yield from locations
            if first is None or first.path != below:  # a folder of frames is no folder of samples
                waiting.extend(join(below, folder) for folder in reversed(folders))

    def _in_folder(
        self, below: str, files: Sequence[str], folders: Sequence[str], inodes: Mapping[str, int]
    ) -> Iterator[Location]:
        """Yield the samples in one folder, or the folder itself if it contains the frames of one."""
        suffixes = [suffix_of(name) for name in files]
        media = MEDIA_SUFFIXES[self.kind]
        has_folders = any(folder.lower() not in DERIVED_FOLDERS for folder in folders)
        num_frames = 0
        if self.kind == "video" and below and not has_folders and media.isdisjoint(suffixes):
            num_frames = sum(map(is_frame, files))
        if num_frames:
            yield Location(below, below, num_frames=num_frames)
            return
        for name, suffix in zip(files, suffixes, strict=True):
            path = join(below, name)
            if suffix in media:
                if name in inodes:
                    self.hard_links.add(path, inodes[name])
                yield Location(path, path)
            elif suffix == ".tar":
                yield from tar_members(self.root, path, self.kind, self.notices, with_labels=self.with_labels)
            else:
                self.others[suffix or "no suffix"] += 1


def scan(root: Path, kind: Kind, *, once: bool = True) -> Iterator[Location]:
    """Yield all videos or images below `root`. Warnings say at the end what was left out.

    Args:
        root: The folder of the dataset.
        kind: What the files are.
        once: Whether to leave out links to files that are there themselves.

    Raises:
        ManifestError: `root` is not a folder.
    """
    found = Scan(root, kind, once=once)
    yield from found
    found.notices.warn(root)
