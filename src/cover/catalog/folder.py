"""Class folders → manifests, one a split.

ROOT/run/a.mp4           ROOT/train/run/a.mp4
ROOT/jump/b.mp4          ROOT/val/jump/b.mp4
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath

from cover.catalog.manifest import Manifest, ManifestRow, write_manifest
from cover.catalog.suffixes import MEDIA_SUFFIXES, SPLIT_NAMES, Kind
from cover.errors import ManifestError
from cover.progress import track

logger = logging.getLogger(__name__)


def index_folder(root: str | Path, *, kind: Kind, out: str | Path, name: str | None = None) -> list[Manifest]:
    """Write OUT/NAME-SPLIT.arrow for the media files of ROOT/class/… or ROOT/split/class/….

    Split folders are called train, val, valid, validation or test; without them everything is `train`. Class names
    are the folder names, sorted, over all splits together, so that labels agree between splits. Files in folders
    below a class belong to it. Hidden files and other suffixes are left out; the latter are counted in the log.

    Raises ManifestError when ROOT does not exist, holds no media in class folders, or mixes the two layouts.
    """
    root = Path(root)
    name = name or root.resolve().name
    files = _media_files(root, kind)
    has_splits = _has_splits(root, files)
    samples: dict[str, list[tuple[str, PurePath]]] = {}
    for file in files:
        split, class_name = (
            (SPLIT_NAMES[file.parts[0].lower()], file.parts[1]) if has_splits else ("train", file.parts[0])
        )
        samples.setdefault(split, []).append((class_name, file))
    class_names = sorted({class_name for split in samples.values() for class_name, _ in split})
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    return [
        write_manifest(
            Path(out) / f"{name}-{split}.arrow",
            (ManifestRow(file.as_posix(), file.as_posix(), label_of[class_name]) for class_name, file in pairs),
            name=name,
            kind=kind,
            split=split,
            class_names=class_names,
            root=root,
        )
        for split, pairs in samples.items()
    ]


def _media_files(root: Path, kind: Kind) -> list[PurePath]:
    """Paths of the media files in folders of `root`, relative to it, sorted."""
    if not root.is_dir():
        raise ManifestError(f"{root} is not a folder; give the folder that holds the class folders")
    files, others = [], Counter[str]()
    for file in track(_walk(root), f"Scanning {root}"):
        if file.suffix.lower() in MEDIA_SUFFIXES[kind] and len(file.parts) > 1:
            files.append(file)
        else:
            others[file.suffix.lower() or "no suffix"] += 1
    seen = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
    if not files:
        raise ManifestError(
            f"{root} holds no {kind} files in class folders ({seen or 'it is empty'}); "
            "expected ROOT/class/file or ROOT/split/class/file"
        )
    if others:
        logger.warning("%s: %d files are no %ss of a class and were left out (%s)", root, others.total(), kind, seen)
    return sorted(files)


def _walk(root: Path) -> Iterator[PurePath]:
    """All files under `root` that are not hidden, relative to it. Links to folders are followed."""
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = [subfolder for subfolder in subfolders if not subfolder.startswith(".")]
        below = PurePath(folder).relative_to(root)
        yield from (below / name for name in names if not name.startswith("."))


def _has_splits(root: Path, files: list[PurePath]) -> bool:
    """Whether the folders of `root` are splits. A folder `train` that holds files itself is a class of trains."""
    splits = {file.parts[0] for file in files if file.parts[0].lower() in SPLIT_NAMES and len(file.parts) > 2}
    others = {file.parts[0] for file in files} - splits
    if splits and others:
        raise ManifestError(
            f"{root} holds the split {min(splits)} beside {min(others)}; either every folder is a split "
            f"({', '.join(SPLIT_NAMES)}) of class folders or every folder is a class: move the others elsewhere"
        )
    return bool(splits)
