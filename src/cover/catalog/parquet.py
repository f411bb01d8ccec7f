"""Parquet shards of images as dataset hubs distribute them → manifests; a row of a shard is a sample.

data/train-00000-of-00294.parquet             columns image {bytes, path} and label, which is a number
data/validation-00000-of-00014-a1b2c3.parquet
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from cover.catalog.manifest import Manifest
from cover.catalog.place import Place, write_placed
from cover.catalog.suffixes import split_in
from cover.errors import ManifestError
from cover.progress import track


def find_shards(root: Path) -> list[Path]:
    """The Parquet files in `root` and ROOT/data, sorted."""
    return sorted(root.glob("*.parquet")) or sorted(root.glob("data/*.parquet"))


def index_parquet(shards: Sequence[Path], *, root: Path, out: str | Path, name: str) -> list[Manifest]:
    """Write OUT/NAME-SPLIT.arrow for the rows of `shards`, whose names state their splits.

    Class names, in label order, are those that the hub's metadata in the Parquet schema gives, else the numbers.
    Splits without labels (−1 in every row) are left out. Only the labels are read.

    Raises ManifestError for a shard without a column `label`, and when no row has a label.
    """
    labels: dict[str, list[int]] = {}
    places: dict[str, list[Place]] = {}
    for shard in track(shards, f"Reading {root}"[:44], unit="shards"):
        split, path = split_in(shard.stem) or "train", shard.relative_to(root).as_posix()
        for row, label in enumerate(_labels(shard)):
            if label is not None and label >= 0:
                labels.setdefault(split, []).append(label)
                places.setdefault(split, []).append(Place(f"{path}:{row}", path, offset=row))
    if not labels:
        raise ManifestError(f"no row of the {len(shards)} Parquet shards in {root} has a label; fetch a labelled split")
    num_classes = 1 + max(max(numbers) for numbers in labels.values())
    class_names = _class_names(shards[0]) or [str(label) for label in range(num_classes)]
    return [
        write_placed(
            places[split],
            labels[split],
            root=root,
            kind="image",
            out=out,
            name=name,
            split=split,
            class_names=class_names,
        )
        for split in labels
    ]


def _labels(shard: Path) -> list[int | None]:
    try:
        return pq.read_table(shard, columns=["label"])["label"].to_pylist()  # type: ignore[no-any-return]
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are of these kinds
        raise ManifestError(f"{shard} has no readable column `label` ({error}); fetch it anew") from error


def _class_names(shard: Path) -> list[str]:
    metadata = pq.read_schema(shard).metadata or {}
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return list(features.get("label", {}).get("names", []))
