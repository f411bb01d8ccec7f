"""Any dataset in class folders or WebDataset shards → a manifest for each split.

ROOT/run/a.mp4                   ROOT/train/run/a.mp4
ROOT/jump/b.mp4                  ROOT/val/jump/b.mp4
ROOT/jump/c/img_00001.jpg, …     ROOT/test-0001.tar with jump/d.mp4 in it

A folder of images is a video, with --kind video. Uncompressed tars count as
what they would unpack to: ROOT/run.tar is a class folder. In WebDataset
shards, the class is in a .cls, .label, .json or .txt file beside a sample.
ROOT/train-00000-of-00002.parquet, … are read if there is nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cover.datasets.class_list import Classes, classes_of
from cover.datasets.folder_checks import check_folders, check_hard_links, has_split_folders, report
from cover.datasets.location import LocatedSplit, Location, write_manifests
from cover.datasets.manifest import Manifest
from cover.datasets.names import DERIVED_FOLDERS, SPLIT_NAMES, Kind, composed, split_of, suffix_of
from cover.datasets.parquet import find_shards, index_parquet
from cover.datasets.scan import Scan


class _Sample(NamedTuple):
    split: str
    class_name: str
    location: Location


def index_folder(root: str | Path, *, kind: Kind, out: str | Path, name: str | None = None) -> list[Manifest]:
    """Write OUT/NAME-SPLIT.arrow for the media of ROOT/class/… or ROOT/split/class/….

    Split folders are called train, val, valid, validation or test; without them, everything is `train`. Class names are
    the folder names in Unicode's composed form, sorted, over all splits together, so labels agree between splits. Files
    in folders below a class belong to it, except thumbnails, previews and masks. A sample with a label beside it in a
    shard has that class, and the split that the shard's path states; if all labels are numbers, they are the labels.
    The log counts what is left out.

    Args:
        root: The folder of the dataset.
        kind: What the files are.
        out: The folder for the manifests.
        name: The name of the dataset; by default that of the folder.

    Returns:
        The manifests.

    Raises:
        ManifestError: ROOT does not exist, has no media in class folders, mixes the two layouts, or has split folders
            below its classes.
    """
    root = Path(root)
    name = name or root.resolve().name
    found = Scan(root, kind, with_labels=True)
    locations = sorted(found, key=lambda location: location.name.split("/"))
    in_folders = [location for location in locations if location.label is None]
    has_splits = has_split_folders(root, [location.name for location in in_folders])
    labelled = _labelled(location for location in locations if location.label is not None)
    samples = [*labelled, *_classed(in_folders, has_splits, found)]
    if not samples and (shards := find_shards(root, in_any_folder=True)):
        return index_parquet(shards, root=root, kind=kind, out=out, name=name)
    report(found, len(samples))
    class_folders = {sample.class_name for sample in samples[len(labelled) :]}
    check_folders(found, class_folders, [sample.location.name for sample in samples[len(labelled) :]], has_splits)
    check_hard_links(found, ((sample.location.path, (sample.split, sample.class_name)) for sample in samples))
    class_names = sorted({sample.class_name for sample in samples})
    names, label_of = classes_of(class_names, name) if labelled else Classes.of(class_names)
    located = {
        split: LocatedSplit(
            [sample.location for sample in samples if sample.split == split],
            [label_of[sample.class_name] for sample in samples if sample.split == split],
        )
        for split in dict.fromkeys(sample.split for sample in samples)
    }
    return write_manifests(located, names, root=root, kind=kind, out=out, name=name)


def _labelled(locations: Iterable[Location]) -> list[_Sample]:
    """Return the samples with labels in shards.

    If a class name has several numbers, the number becomes part of the name.
    """
    samples = [(location, composed(location.label or "")) for location in locations]
    numbers: dict[str, set[str | None]] = {}
    for location, label in samples:
        numbers.setdefault(label, set()).add(location.label_number)
    return [
        _Sample(
            split_of(location.name.rpartition("/")[0]),
            label if len(numbers[label]) == 1 else f"{label} ({location.label_number})",
            location,
        )
        for location, label in samples
    ]


def _classed(locations: Sequence[Location], has_splits: bool, found: Scan) -> list[_Sample]:
    """Return the samples in class folders. Others, and those in folders of thumbnails, are counted as left out."""
    samples = []
    for location in locations:
        *folders, file = location.name.split("/")
        is_loose = len(folders) < 1 + has_splits
        inside = folders[1 + has_splits :] + ([] if location.num_frames is None else [file])
        if not {folder.lower() for folder in inside + folders[:has_splits]}.isdisjoint(DERIVED_FOLDERS):
            found.notices.add("samples in folders of thumbnails, previews or masks are left out", location.name)
        elif is_loose and folders:
            found.notices.add("files in split folders and in no class folder are left out", location.name)
        elif is_loose:
            found.others[suffix_of(file) if location.num_frames is None else "folders of images"] += 1
        elif has_splits:
            samples.append(_Sample(SPLIT_NAMES[folders[0].lower()], composed(folders[1]), location))
        else:
            samples.append(_Sample("train", composed(folders[0]), location))
    return samples
