"""Any dataset in class folders or WebDataset shards → manifests, one a split.

ROOT/run/a.mp4                   ROOT/train/run/a.mp4
ROOT/jump/b.mp4                  ROOT/val/jump/b.mp4
ROOT/jump/c/img_00001.jpg, …     ROOT/test-0001.tar with jump/d.mp4 in it

A folder of images is a video, with --kind video. Uncompressed tars count as
what they would unpack to: ROOT/run.tar is a class folder. In WebDataset
shards the class stands beside a sample, in a .cls, .json or .txt of its name.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cover.catalog.class_names import names_of
from cover.catalog.finder import scan
from cover.catalog.manifest import Manifest
from cover.catalog.place import Place, write_placed
from cover.catalog.suffixes import SPLIT_NAMES, Kind, split_of, suffix_of
from cover.errors import ManifestError

logger = logging.getLogger(__name__)


def index_folder(root: str | Path, *, kind: Kind, out: str | Path, name: str | None = None) -> list[Manifest]:
    """Write OUT/NAME-SPLIT.arrow for the media of ROOT/class/… or ROOT/split/class/….

    Split folders are called train, val, valid, validation or test; without them everything is `train`. Class names
    are the folder names as they are, sorted, over all splits together, so that labels agree between splits. Files in
    folders below a class belong to it. Samples with a label beside them in a shard have that as their class, and the
    split that the shard's path states; labels that are all numbers stand for themselves. Hidden files and other
    suffixes are left out; the latter are counted in the log.

    Raises ManifestError when ROOT does not exist, holds no media in class folders, or mixes the two layouts.
    """
    root = Path(root)
    name = name or root.resolve().name
    samples: dict[str, list[tuple[str, Place]]] = {}
    for split, class_name, place in _classed(root, kind):
        samples.setdefault(split, []).append((class_name, place))
    pairs = [pair for split in samples.values() for pair in split]
    has_labels = any(place.label is not None for _, place in pairs)
    found = {class_name for class_name, _ in pairs}
    class_names = names_of(found) if has_labels else sorted(found)
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    return [
        write_placed(
            [place for _, place in pairs],
            [label_of[class_name] for class_name, _ in pairs],
            root=root,
            kind=kind,
            out=out,
            name=name,
            split=split,
            class_names=class_names,
        )
        for split, pairs in samples.items()
    ]


def _classed(root: Path, kind: Kind) -> list[tuple[str, str, Place]]:
    """(split, class, place) of each sample, in the order of their names."""
    others = Counter[str]()
    places = list(scan(root, kind, with_labels=True, others=others))
    places.sort(key=lambda place: place.name.split("/"))
    in_folders = [place for place in places if place.label is None and "/" in place.name]
    in_shards = [place for place in places if place.label is not None]
    for place in places:
        if place.label is None and "/" not in place.name:
            others[suffix_of(place.name) if place.num_frames is None else "folders of images"] += 1
    _report(root, kind, len(in_folders) + len(in_shards), others)
    has_splits = _has_splits(root, in_folders)
    classed = [(split_of(place.name.rpartition("/")[0]), str(place.label), place) for place in in_shards]
    for place in in_folders:
        first, second = place.name.split("/")[:2]
        classed.append((SPLIT_NAMES[first.lower()], second, place) if has_splits else ("train", first, place))
    return classed


def _report(root: Path, kind: Kind, num_samples: int, others: Counter[str]) -> None:
    seen = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
    if not num_samples:
        raise ManifestError(
            f"{root} holds no {kind} files in class folders ({seen or 'it is empty'}); "
            "expected ROOT/class/file or ROOT/split/class/file"
        )
    if others:
        logger.warning("%s: %d files are no %ss of a class and were left out (%s)", root, others.total(), kind, seen)


def _has_splits(root: Path, places: Sequence[Place]) -> bool:
    """Whether the folders of `root` are splits. A folder `train` that holds files itself is a class of trains."""
    parts = [place.name.split("/", 2) for place in places]
    splits = {first for first, *rest in parts if first.lower() in SPLIT_NAMES and len(rest) > 1}
    others = {first for first, *_ in parts} - splits
    if splits and others:
        raise ManifestError(
            f"{root} holds the split {min(splits)} beside {min(others)}; either every folder is a split "
            f"({', '.join(SPLIT_NAMES)}) of class folders or every folder is a class: move the others elsewhere"
        )
    return bool(splits)
