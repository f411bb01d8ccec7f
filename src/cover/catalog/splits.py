"""What a dataset's annotation lists + what is on disk → one manifest a split, and lists of what is missing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cover.catalog.finder import StemFinder
from cover.catalog.manifest import Manifest
from cover.catalog.missing import list_missing
from cover.catalog.place import Place, write_placed
from cover.catalog.suffixes import Kind
from cover.errors import ManifestError

logger = logging.getLogger(__name__)


class Sample(NamedTuple):
    """One sample as the annotation has it, whether it is on disk or not.

    label: a key of the dataset's classes.
    stems: what its file may be called, without suffix, the usual name first.
    folders: what folders above it may be called, such as its class and split.
    source_id, source_start_seconds, source_end_seconds: as a ManifestRow has them.
    """

    sample_id: str
    label: str
    stems: Sequence[str]
    folders: Sequence[str] = ()
    source_id: str | None = None
    source_start_seconds: float | None = None
    source_end_seconds: float | None = None


def write_splits(
    samples: Mapping[str, Sequence[Sample]],
    classes: Mapping[str, str],
    *,
    root: str | Path,
    kind: Kind,
    out: str | Path,
    name: str,
) -> list[Manifest]:
    """Write OUT/NAME-SPLIT.arrow for each split of `samples` of which a file is below `root`.

    classes: key of a class → its name, in label order.

    Samples that are not on disk are counted in the log and listed in OUT/NAME-SPLIT.missing.txt, a line each: sample
    id, tab, class name. A sample that is listed twice is taken once. Raises ManifestError when nothing is found.
    """
    finder = StemFinder(Path(root), kind)
    places = {
        split: [finder.find(sample.stems, sample.folders) for sample in listed] for split, listed in samples.items()
    }
    if not any(place for found in places.values() for place in found):
        example = next(sample for listed in samples.values() for sample in listed)
        raise ManifestError(
            f"none of the {sum(map(len, samples.values())):,} {kind}s that {name}'s annotation lists is in {root}, as "
            f"{example.stems[0]}; there are {len(finder):,} others: give the folder that holds the {kind}s"
        )
    return write_places(samples, places, classes, root=root, kind=kind, out=out, name=name)


def write_places(
    samples: Mapping[str, Sequence[Sample]],
    places: Mapping[str, Sequence[Place | None]],
    classes: Mapping[str, str],
    *,
    root: str | Path,
    kind: Kind,
    out: str | Path,
    name: str,
) -> list[Manifest]:
    """As write_splits, for samples that have been looked for: `places` of them, None for a missing one."""
    for listed in samples.values():
        if unknown := next((sample for sample in listed if sample.label not in classes), None):
            raise ManifestError(
                f"{unknown.label!r}, the class of {name}'s {unknown.sample_id}, is not among its {len(classes)} "
                "classes; fetch the annotation files anew, all of one version"
            )
    manifests = (
        _write_split(listed, places[split], classes, root=root, kind=kind, out=out, name=name, split=split)
        for split, listed in samples.items()
    )
    return [manifest for manifest in manifests if manifest is not None]


def _write_split(
    samples: Sequence[Sample],
    places: Sequence[Place | None],
    classes: Mapping[str, str],
    *,
    root: str | Path,
    kind: Kind,
    out: str | Path,
    name: str,
    split: str,
) -> Manifest | None:
    once = {sample.sample_id: (sample, place) for sample, place in zip(samples, places, strict=True)}
    if len(once) < len(samples):
        logger.warning("%s %s: %d lines repeat a sample", name, split, len(samples) - len(once))
    missing = [(sample.sample_id, classes[sample.label]) for sample, place in once.values() if place is None]
    list_missing(missing, len(once), out=out, name=name, split=split)
    found = [(sample, place) for sample, place in once.values() if place is not None]
    if not found:
        return None
    label_of = {key: label for label, key in enumerate(classes)}
    return write_placed(
        [place for _, place in found],
        [label_of[sample.label] for sample, _ in found],
        columns={
            "sample_id": [sample.sample_id for sample, _ in found],
            "source_id": [sample.source_id for sample, _ in found],
            "source_start_seconds": [sample.source_start_seconds for sample, _ in found],
            "source_end_seconds": [sample.source_end_seconds for sample, _ in found],
        },
        root=root,
        kind=kind,
        out=out,
        name=name,
        split=split,
        class_names=list(classes.values()),
    )
