"""Index Parquet shards of images or videos as dataset hubs distribute them. Each row of a shard is a sample.

data/train-00000-of-00294.parquet             columns image {bytes, path} and label, a number or a name
data/validation-00000-of-00014-a1b2c3.parquet
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from cover.core.progress import track
from cover.datasets.class_list import Classes, classes_of
from cover.datasets.location import LocatedSplit, Location, write_manifests
from cover.datasets.manifest import Manifest
from cover.datasets.names import Kind, split_in
from cover.datasets.notices import examples, shown
from cover.datasets.parquet_shard import label_column, names_in_metadata, read_labels
from cover.errors import ManifestError

logger = logging.getLogger(__name__)

_SHARD = re.compile(r"(?P<of>.*?)[-_.]?(?P<number>\d+)-of-(?P<total>\d+)")


def find_shards(root: Path, *, in_any_folder: bool = False) -> list[Path]:
    """Return the Parquet files in `root` or in ROOT/data, sorted, or those in the only other folder of ROOT with some.

    Args:
        root: The folder of the dataset.
        in_any_folder: Also look in folders with other names.

    Raises:
        ManifestError: Several folders have Parquet files, which are configurations of one dataset.
    """
    for pattern in ("*.parquet", "data/*.parquet", *(["*/*.parquet"] if in_any_folder else [])):
        shards = sorted(file for file in root.glob(pattern) if not file.name.startswith("."))
        folders = sorted({file.parent.name for file in shards})
        if len(folders) > 1:
            raise ManifestError(f"{root} has Parquet files in {len(folders)} folders ({examples(folders)}); index one")
        if shards:
            return shards
    return []


def index_parquet(shards: Sequence[Path], *, root: Path, kind: Kind, out: str | Path, name: str) -> list[Manifest]:
    """Write OUT/NAME-SPLIT.arrow for the rows of `shards`, whose names state their splits.

    Class names, in label order, come from the hub's metadata in the Parquet schema. Without it, they are the labels:
    names, sorted, or numbers. Rows without a label (null or −1) are left out. Only the labels are read.

    Args:
        shards: The Parquet files.
        root: The folder that paths are relative to.
        kind: What the rows contain.
        out: The folder for the manifests.
        name: The name of the dataset.

    Returns:
        The manifests.

    Raises:
        ManifestError: A shard cannot be read, has no labels or media, or several labels in a row; the shards do not
            belong to one dataset; or no row has a label.
    """
    _check_set(shards)
    column = label_column(shards[0])  # its name and type
    locations: dict[str, list[Location]] = {}
    labels: dict[str, list[str]] = {}
    num_unlabelled = 0
    for shard in track(shards, f"Reading {root}"[:44], unit="shards"):
        split, path = split_in(shard.stem) or "train", shard.relative_to(root).as_posix()
        for row, label in enumerate(read_labels(shard, column, kind)):
            if label is None:
                num_unlabelled += 1
                continue
            labels.setdefault(split, []).append(label)
            locations.setdefault(split, []).append(Location(f"{path}:{row}", path, offset=row))
    if not labels:
        raise ManifestError(
            f"no row of the {len(shards)} Parquet shards in {root} has a label; download a labelled split"
        )
    if num_unlabelled:
        logger.warning("%s: %s rows have no label (null or -1) and are left out", root, f"{num_unlabelled:,}")
    names, label_of = _classes({label for split in labels.values() for label in split}, shards[0], column.name, name)
    located = {split: LocatedSplit(locations[split], [label_of[label] for label in labels[split]]) for split in labels}
    return write_manifests(located, names, root=root, kind=kind, out=out, name=name)


def _check_set(shards: Sequence[Path]) -> None:
    """Warn about shards that are missing by their names, and refuse shards of several sets."""
    sets: dict[str, dict[tuple[str, int], set[int]]] = {}
    for shard in shards:
        if found := _SHARD.match(shard.stem):
            split = split_in(shard.stem) or "train"
            numbers = sets.setdefault(split, {}).setdefault((found["of"], int(found["total"])), set())
            if int(found["number"]) in numbers:
                raise ManifestError(f"{shard} has the number of another shard; keep one export of the dataset")
            numbers.add(int(found["number"]))
    for split, versions in sets.items():
        if len(versions) > 1:
            names = (f"{of}-…-of-{total:05d}" for of, total in versions)
            raise ManifestError(
                f"{shards[0].parent} has several sets of shards for {split} ({examples(names)}); keep one"
            )
        ((_, total), numbers) = next(iter(versions.items()))
        if len(numbers) < total:
            logger.warning("%s: %d of %d shards of %s are present", shards[0].parent, len(numbers), total, split)


def _classes(labels: set[str], shard: Path, column: str, source: str) -> Classes:
    """Return the classes that the shard's metadata names, or those of the labels."""
    named = names_in_metadata(shard, column)
    if named is None:
        return classes_of(labels, source)
    label_of = {name: label for label, name in enumerate(named)} | {str(label): label for label in range(len(named))}
    if outside := sorted(labels - label_of.keys()):
        raise ManifestError(
            f"{shard}: label {shown(outside[0])} is outside the {len(named)} classes that its metadata names; "
            "download all shards of one version"
        )
    return Classes(named, label_of)
