"""The names that a user gives → the videos and images that they stand for.

a.mp4            a file
clips            every video and image below a folder, except hidden files and thumbnails; links are followed
'clips/*.mp4'    a pattern that the shell has not expanded; ** stands for any folders
@list.txt        a list with a path a line
-                such a list on standard input
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cover.core.text_files import read_text
from cover.datasets.names import MEDIA_SUFFIXES, is_frame, suffix_of
from cover.errors import CoverError

_MEDIA = MEDIA_SUFFIXES["video"] | MEDIA_SUFFIXES["image"]
STDIN = "-"


@dataclass(frozen=True)
class Inputs:
    """The files that names stand for. They are found during iteration, so that any number of them takes no memory.

    Paths in a list need not exist: they count as unreadable files later.

    Attributes:
        names: What the user gave.
        frame_folders: Whether a folder of images is one video with these frames.

    Raises:
        CoverError: While iterating: a name stands for nothing, or a list cannot be read.
    """

    names: Sequence[str]
    frame_folders: bool = False

    def __iter__(self) -> Iterator[Path]:
        for name in self.names:
            if name == STDIN or name.startswith("@"):
                yield from self._listed(name)
            else:
                yield from self._named(name)

    def count(self) -> int | None:
        """Count the files, which reads folders and lists once more; None if standard input is among the names."""
        others = Inputs([name for name in self.names if name != STDIN], self.frame_folders)
        num_files = sum(1 for _ in others)
        return num_files if len(others.names) == len(self.names) else None

    def _named(self, name: str) -> Iterator[Path]:
        paths = [name] if os.path.exists(name) else sorted(glob.iglob(name, recursive=True))
        if not paths:
            raise CoverError(
                f"{name or repr(name)} is not a file or a folder; correct the path, or give a pattern that matches "
                "files"
            )
        for path in paths:
            found = False
            for file in self._files(Path(path)):
                found = True
                yield file
            if not found:
                raise CoverError(f"{path} holds no videos or images; give files, or a folder that holds some")

    def _listed(self, name: str) -> Iterator[Path]:
        try:
            # File names need not be UTF-8.
            listed = sys.stdin if name == STDIN else read_text(Path(name[1:]), errors="surrogateescape").split("\n")
            for line in listed:
                if path := line.rstrip("\r\n"):
                    yield from self._files(Path(path))
        except (OSError, ValueError) as error:
            raise CoverError(f"{name} cannot be read ({error}); a list is a text file with a path a line") from error

    def _files(self, path: Path) -> Iterator[Path]:
        if not os.path.isdir(path):
            yield path
            return
        for folder, folders, names in os.walk(path, followlinks=True):
            folders[:] = sorted(name for name in folders if not _is_aside(name) and not _leads_up(folder, name))
            media = sorted(name for name in names if suffix_of(name) in _MEDIA and not _is_aside(name))
            if self.frame_folders and any(map(is_frame, media)):
                yield Path(folder)
                media = [name for name in media if not is_frame(name)]
            yield from (Path(folder, name) for name in media)


def _is_aside(name: str) -> bool:
    """Whether a name is hidden, or is a folder of thumbnails as Synology disks make them."""
    return name.startswith(".") or name == "@eaDir"


def _leads_up(folder: str, name: str) -> bool:
    """Whether a folder is a link to a folder that contains it, which would never end."""
    path = Path(folder, name)
    if not path.is_symlink():
        return False
    above = {parent.resolve() for parent in path.parents}
    return path.resolve() in above | set(path.parent.resolve().parents)
