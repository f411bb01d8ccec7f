"""Where samples were found, and manifests of them: the end of every indexing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cover.core.atomic_files import write_whole
from cover.datasets.class_checks import check_classes
from cover.datasets.manifest import Manifest, write_manifest
from cover.datasets.names import Kind
from cover.datasets.notices import examples, shown
from cover.errors import CoverError

logger = logging.getLogger(__name__)


class Location(NamedTuple):
    """Where one video or image lies: `path`, `offset`, `length` and `num_frames` as a ManifestRow has them.

    name: its path relative to the root as it would be if every tar were unpacked.
    label, label_number: what a WebDataset shard says of it, in a file of the same name; None elsewhere.
    """

    name: str
    path: str
    offset: int | None = None
    length: int | None = None
    num_frames: int | None = None
    label: str | None = None
    label_number: str | None = None


class LocatedSplit(NamedTuple):
    """The samples of a split: a location and a label each, and further columns of the manifest."""

    locations: Sequence[Location]
    labels: Sequence[int]
    columns: Mapping[str, Sequence[Any]] = {}


def write_manifests(
    splits: Mapping[str, LocatedSplit],
    class_names: Sequence[str],
    *,
    root: str | Path,
    kind: Kind,
    out: str | Path,
    name: str,
) -> list[Manifest]:
    """Write OUT/NAME-SPLIT.arrow for each split, after a check of all of them together.

    Sample ids are the locations' names, unless `columns` has others. Of samples with one id the last is taken, as one
    file would replace the other if all tars were unpacked.

    Raises:
        ManifestError: The classes or labels cannot be meant so; then nothing is written.
    """
    columns = {split: _columns(located, f"{name} {split}") for split, located in splits.items()}
    labels = {split: np.asarray(values["label"], np.int64) for split, values in columns.items()}
    check_classes(labels, class_names, name=name, out=Path(out))
    return [
        write_manifest(
            Path(out) / f"{name}-{split}.arrow",
            values,
            name=name,
            kind=kind,
            split=split,
            class_names=class_names,
            root=root,
        )
        for split, values in columns.items()
    ]


def _columns(located: LocatedSplit, source: str) -> dict[str, Sequence[Any]]:
    locations = located.locations
    columns: dict[str, Sequence[Any]] = {
        "sample_id": [location.name for location in locations],
        "path": [location.path for location in locations],
        "offset": [location.offset for location in locations],
        "length": [location.length for location in locations],
        "num_frames": [location.num_frames for location in locations],
        "label": located.labels,
    }
    columns |= located.columns
    last = {sample_id: row for row, sample_id in enumerate(columns["sample_id"])}
    if len(last) == len(locations):
        return columns
    rows = sorted(last.values())
    repeated = (columns["sample_id"][row] for row in sorted(set(range(len(locations))) - set(rows)))
    message = "%s: %s samples occur twice, as files or in tars, such as %s; the last of each is taken"
    logger.warning(message, source, f"{len(locations) - len(rows):,}", examples(repeated))
    return {column: [values[row] for row in rows] for column, values in columns.items()}


def list_missing(
    missing: Sequence[tuple[str, str]], num_listed: int, *, out: str | Path, name: str, split: str
) -> None:
    """Write OUT/NAME-SPLIT.missing.txt, a line for each of `missing`: sample id, tab, class name; and count them in
    the log. Where nothing is missing, an older file goes. Raises CoverError where no file can be written.

    num_listed: how many samples the annotation lists.
    """
    file = Path(out) / f"{name}-{split}.missing.txt"
    if not missing:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise CoverError(f"{file} cannot be removed ({error.strerror}); remove what is there") from error
        return
    write_whole(file, "".join(f"{sample_id}\t{class_name}\n" for sample_id, class_name in missing))
    share = 100 * len(missing) / num_listed
    message = "%s %s: %s of %s listed samples are missing (%.1f %%), such as %s; they are listed in %s"
    logger.warning(message, name, split, f"{len(missing):,}", f"{num_listed:,}", share, shown(missing[0][0]), file)
