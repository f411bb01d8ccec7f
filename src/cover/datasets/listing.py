"""List the files in the folders of a dataset: each file once, without what systems and tools leave there.

ROOT/run/all → ..                      a link to a folder that is listed anyway, or that contains it: left out
ROOT/run/b.mp4 → ../.annex/objects/x   a link to a file that is not listed anywhere else: a file
ROOT/run/@eaDir, Thumbs.db, .cache     left out

Only links need a look at their target; everything else is known from listing the folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from cover.datasets.names import MEDIA_SUFFIXES, Kind, suffix_of
from cover.datasets.notices import Notices, is_utf8

_SYSTEM_FOLDERS = frozenset(
    {"#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recently-snapshot", "@recycle", "@tmp", "~snapshot"}
    | {"__macosx", "__pycache__", "found.000", "lost+found", "network trash folder", "recycler"}
    | {"system volume information", "temporary items", "thevolumesettingsfolder"}
)
_SYSTEM_FILES = frozenset({"desktop.ini", "ehthumbs.db", "thumbs.db"})
_SYSTEM = _SYSTEM_FILES | _SYSTEM_FOLDERS


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or is one that operating systems and storage devices add."""
    return name.startswith(".") or name.lower() in _SYSTEM


class Folders:
    """Lists the folders below `root`.

    Args:
        root: The folder that paths are relative to.
        kind: What the files are. A link to such a file, or to a tar, inside the root leads to what is listed anyway.
        notices: Counts what is left out, except hidden files.
        once: What is listed only once, however many links lead to it.

    Attributes:
        inodes: For the folder that was listed last, name of a file that is not a link → its inode.
    """

    def __init__(
        self,
        root: Path,
        kind: Kind,
        notices: Notices,
        *,
        once: Sequence[Literal["files", "folders"]] = ("files", "folders"),
    ) -> None:
        self._root, self._notices, self._once = root, notices, once
        self._suffixes = MEDIA_SUFFIXES[kind] | {".tar"}
        self._tops = {os.path.realpath(root)}  # real paths below which everything is listed
        self._reached: set[str] = set()  # real paths of listed folders, and of the files that links lead to
        self.inodes: dict[str, int] = {}

    def list(self, below: str) -> tuple[list[str], list[str]]:
        """List a folder.

        Args:
            below: The path of the folder relative to `root`, "" for the root itself.

        Returns:
            The names of its files and of its folders, sorted. Both are empty if it cannot be listed.
        """
        real = os.path.realpath(os.path.join(self._root, below))
        if "folders" in self._once:
            if real in self._reached:
                self._notices.add("folders that are indexed under another name are left out", below)
                return [], []
            self._reached.add(real)
        files: list[str] = []
        folders: list[str] = []
        self.inodes = {}
        # Sorted, so that the same one of two links to a file is kept on every system.
        for entry, is_folder in sorted(self._entries(below), key=lambda found: found[0].name):
            if entry.is_symlink() and self._is_elsewhere(entry.path, real, is_folder):
                self._notices.add("links to what is indexed elsewhere are left out", join(below, entry.name))
            else:
                (folders if is_folder else files).append(entry.name)
                if not is_folder and not entry.is_symlink():
                    self.inodes[entry.name] = entry.inode()
        return files, folders

    def _entries(self, below: str) -> Iterator[tuple[os.DirEntry[str], bool]]:
        """Yield (entry, whether it is a folder) for everything that may be listed, with links."""
        try:
            with os.scandir(os.path.join(self._root, below)) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name.lower() in _SYSTEM_FILES:
                        continue
                    is_folder, fault = _judge(entry)
                    if fault:
                        self._notices.add(fault, join(below, entry.name))
                    else:
                        yield entry, is_folder
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self._notices.add(f"folders cannot be listed ({error.strerror})", below or str(self._root))

    def _is_elsewhere(self, link: str, folder: str, is_folder: bool) -> bool:
        """Whether the target of a link is listed without it. If not, the link stands for the target from now on."""
        if ("folders" if is_folder else "files") not in self._once:
            return False
        target = os.path.realpath(link)
        if is_folder and f"{folder}/".startswith(f"{target.rstrip('/')}/"):
            return True  # the target contains the link itself
        if target in self._reached or (is_folder and target in self._tops):
            return True
        if (is_folder or suffix_of(target) in self._suffixes) and self._is_listed(target):
            return True
        (self._tops if is_folder else self._reached).add(target)
        return False

    def _is_listed(self, target: str) -> bool:
        """Whether a real path lies in a folder in which everything that is not hidden is listed."""
        above = os.path.dirname(target)
        while above not in self._tops:
            if above == os.path.dirname(above):
                return False
            above = os.path.dirname(above)
        return not any(map(is_hidden, target[len(above) :].split("/")))


def _judge(entry: os.DirEntry[str]) -> tuple[bool, str | None]:
    """Return whether an entry is a folder, and what keeps it from being listed, if anything does."""
    try:
        is_folder = entry.is_dir()
        is_regular = is_folder or entry.is_file()
    except OSError:  # a link to itself, or into a folder that may not be entered
        is_folder = is_regular = False
    if not is_utf8(entry.name):
        return is_folder, "files or folders with names that are not UTF-8 are left out"
    if not is_regular:
        what = "links that lead nowhere" if entry.is_symlink() else "pipes, sockets or devices"
        return is_folder, f"{what} are left out"
    if is_folder and entry.name.lower() in _SYSTEM_FOLDERS:
        return is_folder, "folders of the operating system or a storage device are left out"
    return is_folder, None


def join(below: str, name: str) -> str:
    """Return the path of `name` in the folder `below`, which is "" for the root."""
    return f"{below}/{name}" if below else name
