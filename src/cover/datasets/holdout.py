"""Choose a validation split for a dataset that has none: whole recordings, the same share of every class."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from cover.datasets.manifest import Manifest, ManifestRow, write_manifest
from cover.datasets.names import stem_of
from cover.errors import ManifestError

_PART = re.compile(r"(?i)(?:_\d{6}_\d{6}|[-_. ](?:clip|part|seg|segment|scene|shot|chunk)[-_. ]?\d+|_c\d+)$")
"""What a name ends with if it is that of a part of a recording: Kinetics' times, UCF101's `_c02`, `-clip3`."""


def hold_out(manifests: Sequence[Manifest], share: float, copies: Mapping[Path, Path] = {}) -> list[Manifest]:
    """Move a share of every class of a train split into OUT/NAME-val.arrow beside it.

    Samples with the same source stay together: the same source_id, the same file or a copy of it, or names that differ
    only in the number of a part, such as `game_clip3.mp4`. A hash of the source decides, so the same files give the
    same split on every machine.

    Args:
        manifests: The splits of a dataset; the file of train is replaced.
        share: Of each class, from 0 to 1.
        copies: File → another file with the same content.

    Returns:
        The manifests, with val after train.

    Raises:
        ManifestError: There is a val split already, no train split, or no source can be spared.
    """
    splits = {manifest.split: manifest for manifest in manifests}
    name = manifests[0].name
    if "val" in splits or "train" not in splits:
        raise ManifestError(
            f"{name} has the splits {', '.join(splits)}, and --val makes a val split out of train; leave --val out"
        )
    train = splits.pop("train")
    rows = list(train)
    sources = _sources(rows, copies)
    held = _chosen(rows, sources, share)
    if not held:
        raise ManifestError(
            f"{name} has too few samples for a val split: each class keeps at least one source for training; "
            "add files, or leave --val out"
        )
    parts: dict[str, list[ManifestRow]] = {"train": [], "val": []}
    for row, source in zip(rows, sources, strict=True):
        parts["val" if source in held else "train"].append(row)
    val = _write(train, "val", parts["val"])  # first: if this ends here, train still has all
    return [_write(train, "train", parts["train"]), val, *splits.values()]


def _write(train: Manifest, split: str, rows: Sequence[ManifestRow]) -> Manifest:
    return write_manifest(
        train.path.with_name(f"{train.name}-{split}.arrow"),
        [{key: value for key, value in vars(row).items() if key != "root"} for row in rows],
        name=train.name,
        kind=train.kind,
        split=split,
        class_names=train.class_names,
        root=train.root,
    )


def _sources(rows: Sequence[ManifestRow], copies: Mapping[Path, Path]) -> list[Hashable]:
    """Return the source of each sample. Names count only if no class would come from one source for the most part."""
    named = [_PART.sub("", stem_of(row.path)) for row in rows]
    is_part = [name != stem_of(row.path) for name, row in zip(named, rows, strict=True)]
    of_class = Counter(row.label for row in rows)
    largest = Counter((row.label, name) for row, name, part in zip(rows, named, is_part, strict=True) if part)
    path_of = {row.file: row.path for row in rows}
    by_name = all(2 * count <= of_class[label] for (label, _), count in largest.items())

    def source(row: ManifestRow, name: str, part: bool) -> Hashable:
        if row.source_id is not None:
            return row.source_id
        return name if by_name and part else (path_of.get(copies.get(row.file, row.file), row.path), row.offset)

    return [source(*sample) for sample in zip(rows, named, is_part, strict=True)]


def _chosen(rows: Sequence[ManifestRow], sources: Sequence[Hashable], share: float) -> set[Hashable]:
    """Return the sources of the val split.

    Sources are taken in the order of their hashes, as long as no class gets more than its share. A class that gets
    nothing that way gets its smallest source.
    """
    counts: dict[Hashable, Counter[int]] = defaultdict(Counter)
    for row, source in zip(rows, sources, strict=True):
        counts[source].update(row.labels or (row.label,))
    total = sum(counts.values(), Counter[int]())
    wanted = {label: max(1, round(share * count)) for label, count in total.items()}
    held, taken = Counter[int](), set[Hashable]()
    order = sorted(counts, key=lambda source: hashlib.sha256(repr(source).encode()).digest())

    def take(source: Hashable, limit: Mapping[int, int]) -> None:
        own = counts[source]
        if all(held[label] + count <= min(limit[label], total[label] - 1) for label, count in own.items()):
            held.update(own)
            taken.add(source)

    for source in order:
        take(source, wanted)
    for source in sorted(order, key=lambda source: counts[source].total()):
        if source not in taken and any(not held[label] for label in counts[source]):
            take(source, total)
    return taken
