"""Where samples were found, and writing manifests of them: the end of every indexing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cover.core.atomic_files import write_whole
from cover.datasets.class_checks import check_classes
from cover.datasets.manifest import Manifest, write_manifest
from cover.datasets.names import Kind
from cover.datasets.notices import examples, shown
from cover.errors import CoverError

logger = logging.getLogger(__name__)


class Location(NamedTuple):
    """Where a video or image is. `path`, `offset`, `length` and `num_frames` are as in ManifestRow.

    Attributes:
        name: Its path relative to the root, as it would be if all tars were unpacked.
        label: The label in a WebDataset shard, from a file of the same name; None elsewhere.
        label_number: The number of the class, if the shard states both a name and a number.
    """

    name: str
    path: str
    offset: int | None = None
    length: int | None = None
    num_frames: int | None = None
    label: str | None = None
    label_number: str | None = None


class LocatedSplit(NamedTuple):
    """The samples of a split.

    Attributes:
        locations: Where they are.
        labels: The label of each.
        columns: More columns of the manifest.
    """

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
    """Write OUT/NAME-SPLIT.arrow for each split, after checking the classes of all splits together.

    Sample ids are the names of the locations, unless `columns` has others. Of several samples with one id, the last is
    taken, because one file would replace the other if all tars were unpacked.

    Args:
        splits: Split → its samples.
        class_names: In label order.
        root: The folder that paths are relative to.
        kind: What the files are.
        out: The folder for the manifests.
        name: The name of the dataset.

    Returns:
        The manifests.

    Raises:
        ManifestError: The classes or labels cannot be meant. Nothing is written then.
        CoverError: A file cannot be written.
    """
    columns = {split: _columns(located, f"{name} {split}") for split, located in splits.items()}
    labels = {split: _all_labels(values) for split, values in columns.items()}
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


def _all_labels(columns: Mapping[str, Sequence[Any]]) -> npt.NDArray[np.int64]:
    """The labels of all samples, several of a sample of a multi-label dataset."""
    return np.asarray([*chain(*columns["labels"])] if "labels" in columns else columns["label"], np.int64)


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
    message = "%s: %s samples occur twice, as files or in tars, such as %s; the last one counts"
    logger.warning(message, source, f"{len(locations) - len(rows):,}", examples(repeated))
    return {column: [values[row] for row in rows] for column, values in columns.items()}


def list_missing(
    missing: Sequence[tuple[str, str]], num_listed: int, *, out: str | Path, name: str, split: str
) -> None:
    """Write the samples that are not on disk to OUT/NAME-SPLIT.missing.txt, and count them in the log.

    The file has a line for each: sample id, tab, class name. If nothing is missing, an older file is deleted.

    Args:
        missing: (sample id, class name) of each missing sample.
        num_listed: How many samples the annotation lists.
        out: The folder for the file.
        name: The name of the dataset.
        split: The name of the split.

    Raises:
        CoverError: The file cannot be written or deleted.
    """
    file = Path(out) / f"{name}-{split}.missing.txt"
    if not missing:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise CoverError(f"{file} cannot be deleted ({error.strerror}); delete it yourself") from error
        return
    write_whole(file, "".join(f"{sample_id}\t{class_name}\n" for sample_id, class_name in missing))
    share = 100 * len(missing) / num_listed
    message = "%s %s: %s of %s listed samples are missing (%.1f %%), such as %s; they are listed in %s"
    logger.warning(message, name, split, f"{len(missing):,}", f"{num_listed:,}", share, shown(missing[0][0]), file)
