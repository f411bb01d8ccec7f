"""Find the samples that an annotation lists, by the names of their files or by their paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from cover.datasets.listing import Folders, join
from cover.datasets.location import Location
from cover.datasets.names import MEDIA_SUFFIXES, Kind, composed, folder_key, is_frame, split_in, stem_of, suffix_of
from cover.datasets.notices import Notices
from cover.datasets.scan import scan
from cover.datasets.tars import tar_members


class StemFinder:
    """Finds samples anywhere below `root` by the names of their files, after one scan.

    Args:
        root: The folder to scan.
        kind: What the files are.

    Raises:
        ManifestError: `root` is not a folder.
    """

    def __init__(self, root: Path, kind: Kind) -> None:
        self._locations: dict[str, list[Location]] = {}
        for location in scan(root, kind, once=False):  # a link may have the name that the annotation lists
            self._locations.setdefault(composed(stem_of(location.name)), []).append(location)

    def __len__(self) -> int:
        return len(self._locations)

    def find(self, stems: Sequence[str], folders: Sequence[str] = ()) -> Location | None:
        """Return the file with one of the given names, or None.

        Of several files, the one that lies in most of `folders` wins, then one whose name has the same Unicode form,
        then that of the first stem, then the first in alphabetical order.

        Args:
            stems: Possible names without suffix, the usual one first.
            folders: Names that the folders above the file may have, such as its class and split.
        """
        locations = [location for stem in stems for location in self._locations.get(composed(stem), ())]
        if len(locations) < 2:
            return locations[0] if locations else None
        wanted = {folder_key(folder) for folder in folders}
        return max(locations, key=lambda location: (_num_shared(location, wanted), stem_of(location.name) in stems))


def _num_shared(location: Location, wanted: set[str]) -> int:
    return sum(folder_key(part) in wanted or split_in(part) in wanted for part in location.name.split("/")[:-1])


class PathFinder:
    """Finds samples by their paths, absolute or relative to `root`. Only folders that are asked for are listed.

    Args:
        root: The folder that paths are relative to.
        kind: What the files are.

    Attributes:
        notices: What was left out or found odd.
    """

    def __init__(self, root: Path, kind: Kind) -> None:
        self._root, self._kind = root, kind
        self.notices = Notices()
        self._listing = Folders(root, kind, self.notices, once=())
        self._locations: dict[str, Location] = {}
        self._folders: set[str] = set()
        self._listed: set[str] = set()
        self._alike: dict[str, list[Location]] = {}
        self._num_alike = 0
        self._spelled: dict[str, str] = {}  # folders as listed → as on disk

    def find(self, path: str, *, num_frames: int | None = None) -> Location | None:
        """Return the file, frame folder, or member of a tar at `path`, or None.

        Args:
            path: As the annotation has it.
            num_frames: Of a frame folder, if known, so that its images need not be counted.
        """
        path = os.path.normpath(path)
        self._list_folder(os.path.dirname(path))
        if location := self._locations.get(path):
            return location
        if path not in self._folders:
            return None
        if num_frames is None:
            num_frames = sum(map(is_frame, self._listing.list(path)[0]))
        return Location(path, path, num_frames=num_frames) if num_frames else None

    def find_alike(self, path: str, *, num_frames: int | None = None) -> Location | None:
        """Like `find`, for a path with Windows slashes, another Unicode form, or no suffix or another one.

        Args:
            path: As the annotation has it.
            num_frames: As in `find`.

        Returns:
            The sample, or None if there is none or there are several.
        """
        path = os.path.normpath(path.replace("\\", "/"))
        folder, name = os.path.split(path)
        if folder not in self._spelled:
            self._spelled[folder] = self._as_on_disk(folder)
        path = join(self._spelled[folder], name)
        if location := self.find(path, num_frames=num_frames):
            return location
        found = self._by_key().get(_key(path), [])
        same = [location for location in found if composed(location.name) == composed(path)] or found
        if len(same) > 1:
            self.notices.add("listed paths match several files and are left out", path)
        return same[0] if len(same) == 1 else None

    def _by_key(self) -> dict[str, list[Location]]:
        """Return the files by their keys, with those that were listed since the last call."""
        for location in islice(self._locations.values(), self._num_alike, None):
            if suffix_of(location.name) in MEDIA_SUFFIXES[self._kind]:
                self._alike.setdefault(_key(location.name), []).append(location)
        self._num_alike = len(self._locations)
        return self._alike

    def _as_on_disk(self, folder: str) -> str:
        """Return `folder` as it is spelled on disk, which may be in another Unicode form."""
        if folder.isascii():
            return folder
        on_disk = "/" if os.path.isabs(folder) else ""
        for name in folder.strip("/").split("/"):
            path = os.path.join(on_disk, name)
            if not name.isascii() and not os.path.isdir(self._root / path):
                same = [other for other in self._listing.list(on_disk)[1] if composed(other) == composed(name)]
                path = os.path.join(on_disk, same[0]) if len(same) == 1 else path
            on_disk = path
        return on_disk

    def _list_folder(self, folder: str) -> None:
        """List a folder and those above it inside the root, because tars there may contain what it seems to contain."""
        while folder not in self._listed:
            self._listed.add(folder)
            files, folders = self._listing.list(folder)
            self._folders.update(join(folder, name) for name in folders)
            for path in (join(folder, name) for name in files):
                self._locations[path] = Location(path, path)
                if suffix_of(path) == ".tar":
                    members = tar_members(self._root, path, self._kind, self.notices)
                    self._locations.update((location.name, location) for location in members)
            if os.path.isabs(folder):
                return
            folder = os.path.dirname(folder)


def _key(path: str) -> str:
    folder, name = os.path.split(path)
    return composed(join(folder, stem_of(name)))
