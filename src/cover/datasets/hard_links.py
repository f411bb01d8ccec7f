"""Files of one dataset that are one file on disk under several names.

Folders are listed with the number of each file (its inode), which costs no look at the file itself.
"""

from __future__ import annotations

from array import array

import numpy as np


class HardLinks:
    """The paths of files with the numbers that a file system gives them: 16 bytes for each besides its path."""

    def __init__(self) -> None:
        self._inodes = array("Q")
        self._paths: list[str] = []

    def add(self, path: str, inode: int) -> None:
        """Add a file."""
        self._inodes.append(inode)
        self._paths.append(path)

    def groups(self) -> list[list[str]]:
        """Paths that share a number, in the order of the first of each. On different devices they may be two files."""
        inodes = np.array(self._inodes, np.uint64)
        values, counts = np.unique(inodes, return_counts=True)
        groups: dict[int, list[str]] = {}
        for place in np.flatnonzero(np.isin(inodes, values[counts > 1])):
            groups.setdefault(int(inodes[place]), []).append(self._paths[place])
        return list(groups.values())
