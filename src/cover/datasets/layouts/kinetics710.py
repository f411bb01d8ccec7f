"""Kinetics-710: the manifests of Kinetics-400, -600 and -700, merged into one label space without leaks.

cover index kinetics400 /data/k400      writes manifests/k400-train.arrow, …
cover index kinetics600 /data/k600
cover index kinetics700 /data/k700
cover index kinetics710 manifests/k700-*.arrow manifests/k600-*.arrow \\
    manifests/k400-*.arrow              writes manifests/k710-train.arrow, …
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cover.datasets.manifest import Manifest, write_manifest
from cover.datasets.names import RENAMED_CLASSES
from cover.errors import ManifestError

logger = logging.getLogger(__name__)


@dataclass
class _Merged:
    """The columns of a split so far, and how many clips of other manifests it left out."""

    columns: dict[str, list[Any]] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)
    num_repeated: int = 0
    num_leaked: int = 0


def index_kinetics710(manifests: Sequence[str | Path], *, out: str | Path, name: str = "k710") -> list[Manifest]:
    """Write OUT/NAME-SPLIT.arrow from the manifests of several editions of Kinetics (UniFormerV2, Li et al. 2022).

    A YouTube video occurs once in a split, with the class and clip of the manifest that is named first. Videos that are
    in a val or test split of any edition are left out of train. Classes have their names in Kinetics-700, sorted.

    Args:
        manifests: Of all splits of all editions.
        out: The folder for the manifests.
        name: The name of the dataset.

    Returns:
        The manifests.

    Raises:
        ManifestError: A manifest cannot be read, or has a clip without a YouTube id; or there is no training split.
    """
    opened = [Manifest.open(path) for path in manifests]
    for manifest in opened:
        if manifest.table["source_id"].null_count:
            raise ManifestError(
                f"{manifest.path} has samples without source_id, their YouTube id; name manifests that "
                "`cover index kinetics400`, kinetics600 or kinetics700 has written"
            )
    if not any(manifest.split == "train" for manifest in opened):
        raise ManifestError("none of the manifests is a training split; name those of all splits and editions")
    held_out = {
        video for manifest in opened if manifest.split != "train" for video in manifest.table["source_id"].to_pylist()
    }
    root = Path(os.path.commonpath([manifest.root.resolve() for manifest in opened]))
    splits: dict[str, _Merged] = {}
    for manifest in opened:
        merged = splits.setdefault(manifest.split, _Merged())
        _add(merged, manifest, held_out if manifest.split == "train" else set(), root)
    class_names = sorted({name for merged in splits.values() for name in merged.class_names})
    return [_write(merged, split, class_names, root, Path(out), name) for split, merged in splits.items()]


def _add(merged: _Merged, manifest: Manifest, held_out: set[str], root: Path) -> None:
    """Add the clips of a manifest whose videos are new to the split."""
    known, rows = {*merged.columns.get("source_id", ())}, []
    for row, video in enumerate(manifest.table["source_id"].to_pylist()):
        if video in held_out:
            merged.num_leaked += 1
        elif video in known:
            merged.num_repeated += 1
        else:
            known.add(video)
            rows.append(row)
    table = manifest.table.take(rows)
    prefix = os.path.relpath(manifest.root.resolve(), root)
    names = [RENAMED_CLASSES.get(name, name) for name in manifest.class_names]
    columns: Mapping[str, list[Any]] = table.to_pydict() | {
        "path": [os.path.normpath(os.path.join(prefix, path)) for path in table["path"].to_pylist()],
        "label": [names[label] for label in table["label"].to_pylist()],
    }
    for column, values in columns.items():
        merged.columns.setdefault(column, []).extend(values)
    merged.class_names += names


def _write(merged: _Merged, split: str, class_names: Sequence[str], root: Path, out: Path, name: str) -> Manifest:
    if merged.num_repeated or merged.num_leaked:
        message = "%s %s: %s clips are left out as videos that occur already, and %s as videos of a val or test split"
        logger.warning(message, name, split, f"{merged.num_repeated:,}", f"{merged.num_leaked:,}")
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    columns = merged.columns | {"label": [label_of[class_name] for class_name in merged.columns["label"]]}
    return write_manifest(
        out / f"{name}-{split}.arrow", columns, name=name, kind="video", split=split, class_names=class_names, root=root
    )
