"""Write a manifest for each split from a dataset's annotation and what is on disk, and list missing files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cover.datasets.finder import StemFinder
from cover.datasets.location import LocatedSplit, Location, list_missing, write_manifests
from cover.datasets.manifest import Manifest
from cover.datasets.names import Kind
from cover.datasets.notices import examples
from cover.errors import ManifestError

logger = logging.getLogger(__name__)


class AnnotatedSample(NamedTuple):
    """One sample as the annotation lists it, whether it is on disk or not.

    Attributes:
        sample_id: Its id in the manifest.
        label: A key of the dataset's classes.
        stems: Possible names of its file without suffix, the usual one first.
        folders: Possible names of folders above it, such as its class and split.
        source_id: As in ManifestRow.
        source_start_seconds: As in ManifestRow.
        source_end_seconds: As in ManifestRow.
        start_seconds: As in ManifestRow.
        end_seconds: As in ManifestRow.
        labels: Keys of all classes of a sample of a multi-label dataset, the first of which is `label`.
    """

    sample_id: str
    label: str
    stems: Sequence[str]
    folders: Sequence[str] = ()
    source_id: str | None = None
    source_start_seconds: float | None = None
    source_end_seconds: float | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    labels: Sequence[str] = ()


def write_splits(
    samples: Mapping[str, Sequence[AnnotatedSample]],
    classes: Mapping[str, str],
    *,
    root: str | Path,
    kind: Kind,
    out: str | Path,
    name: str,
) -> list[Manifest]:
    """Find the samples and write OUT/NAME-SPLIT.arrow for each split that has files below `root`.

    Samples that are not on disk are counted in the log and listed in OUT/NAME-SPLIT.missing.txt (see list_missing). A
    sample that is listed twice is taken once.

    Args:
        samples: Split → its samples.
        classes: Key of a class → its name, in label order.
        root: The folder to search.
        kind: What the files are.
        out: The folder for the manifests.
        name: The name of the dataset.

    Returns:
        The manifests.

    Raises:
        ManifestError: No sample is on disk, or a class is unknown.
    """
    finder = StemFinder(Path(root), kind)
    locations = {
        split: [finder.find(sample.stems, sample.folders) for sample in listed] for split, listed in samples.items()
    }
    if not any(location for found in locations.values() for location in found):
        example = next(sample for listed in samples.values() for sample in listed)
        raise ManifestError(
            f"none of the {sum(map(len, samples.values())):,} {kind}s in {name}'s annotation is in {root}, such as "
            f"{example.stems[0]}; there are {len(finder):,} others: give the folder that contains the {kind}s"
        )
    return write_located(samples, locations, classes, root=root, kind=kind, out=out, name=name)


def write_located(
    samples: Mapping[str, Sequence[AnnotatedSample]],
    locations: Mapping[str, Sequence[Location | None]],
    classes: Mapping[str, str],
    *,
    root: str | Path,
    kind: Kind,
    out: str | Path,
    name: str,
) -> list[Manifest]:
    """Like write_splits, for samples that have been located already.

    Args:
        samples: Split → its samples.
        locations: Split → where each sample is, or None if it is missing.
        classes: Key of a class → its name, in label order.
        root: The folder that paths are relative to.
        kind: What the files are.
        out: The folder for the manifests.
        name: The name of the dataset.

    Returns:
        The manifests.

    Raises:
        ManifestError: A class is unknown.
    """
    for listed in samples.values():
        for sample in listed:
            if unknown := [key for key in (sample.label, *sample.labels) if key not in classes]:
                raise ManifestError(
                    f"{unknown[0]!r}, the class of {name}'s {sample.sample_id}, is not among its {len(classes)} "
                    "classes; download all annotation files of one version"
                )
    once = {split: _once(listed, locations[split], f"{name} {split}") for split, listed in samples.items()}
    found = {split: [pair for pair in pairs if pair[1] is not None] for split, pairs in once.items()}
    label_of = {key: label for label, key in enumerate(classes)}
    manifests = write_manifests(
        {split: _located(pairs, label_of) for split, pairs in found.items() if pairs},
        list(classes.values()),
        root=root,
        kind=kind,
        out=out,
        name=name,
    )
    for split, pairs in once.items():
        missing = [(sample.sample_id, classes[sample.label]) for sample, location in pairs if location is None]
        list_missing(missing, len(pairs), out=out, name=name, split=split)
    return manifests


def _once(
    samples: Sequence[AnnotatedSample], locations: Sequence[Location | None], source: str
) -> list[tuple[AnnotatedSample, Location | None]]:
    """Return each sample once, the last one if it is listed several times.

    Warnings say so, and which samples share a file.
    """
    once: dict[str, tuple[AnnotatedSample, Location | None]] = {}
    relabelled = []
    for sample, location in zip(samples, locations, strict=True):
        before, _ = once.get(sample.sample_id, (sample, None))
        if before.label != sample.label:
            relabelled.append(f"{sample.sample_id} ({before.label}, {sample.label})")
        once[sample.sample_id] = sample, location
    if len(once) < len(samples):
        logger.warning("%s: %d lines repeat a sample", source, len(samples) - len(once))
    if relabelled:
        message = "%s: %d lines give a sample another label, such as %s; the last label counts"
        logger.warning(message, source, len(relabelled), examples(relabelled))
    found = [
        (location[1:4], sample.start_seconds, sample.end_seconds)
        for sample, location in once.values()
        if location is not None
    ]
    if shared := len(found) - len(set(found)):
        message = "%s: %d samples have the same file as another; if files are whole recordings, use `cover index csv`"
        logger.warning(message, source, shared)
    return list(once.values())


def _located(found: Sequence[tuple[AnnotatedSample, Location | None]], label_of: Mapping[str, int]) -> LocatedSplit:
    kept = ("sample_id", "source_id", "source_start_seconds", "source_end_seconds", "start_seconds", "end_seconds")
    columns: dict[str, list[Any]] = {name: [getattr(sample, name) for sample, _ in found] for name in kept}
    if any(sample.labels for sample, _ in found):
        columns["labels"] = [[label_of[key] for key in sample.labels] for sample, _ in found]
    return LocatedSplit(
        [location for _, location in found if location is not None],
        [label_of[sample.label] for sample, _ in found],
        columns,
    )
