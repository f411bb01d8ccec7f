"""Any annotation list → a manifest.

run/a.mp4 0       run/a 300 0       path,label,start_seconds,end_seconds,split
jump/b.mp4 1      jump/b 250 1      run/a.mp4,running,2.0,12.0,train

Lines are `path label` or `path num_frames label`, or have the columns that a
header names, in these words or other usual ones (video, class, time_start).
Tabs, semicolons, commas or spaces separate them; put paths that contain such
characters in quotes. A path is that of a file, of a folder of frames, or of
what a tar beside it or in a folder above would unpack to. It is also found if
only its suffix, its slashes or its Unicode form differ from what is on disk.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cover.core.progress import track
from cover.datasets.annotation_list import Entry, read_list, seconds, share, whole_number
from cover.datasets.class_list import classes_of, listed_classes, number_of
from cover.datasets.finder import PathFinder
from cover.datasets.location import LocatedSplit, Location, list_missing, write_manifests
from cover.datasets.manifest import Manifest
from cover.datasets.names import SPLIT_NAMES, Kind, composed
from cover.datasets.notices import examples, shown
from cover.errors import ManifestError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Listed:
    """One sample as a list has it."""

    entry: Entry
    sample_id: str
    path: str
    label: int
    start_seconds: float | None
    end_seconds: float | None
    num_frames: int | None
    source_id: str | None
    weight: float | None


def index_annotations(
    file: str | Path,
    *,
    kind: Kind,
    root: str | Path,
    out: str | Path,
    name: str,
    split: str,
    class_names: Sequence[str] | None = None,
    multi_label: bool = False,
) -> Manifest:
    """Write OUT/NAME-SPLIT.arrow for the media files that a list names.

    Lines are `path label` or `path num_frames label`, or have the columns that a header names (COLUMNS; others are
    ignored). If the list has a `split` column, only the lines of `split` are taken. Labels are class names, or numbers
    into `class_names`. Without `class_names`, the classes are those of the whole list: the names, sorted, or 0 to the
    largest number. Listed files that do not exist are left out and listed in OUT/NAME-SPLIT.missing.txt (see
    list_missing).

    Args:
        file: The list.
        kind: What the files are.
        root: The folder that paths are relative to.
        out: The folder for the manifest.
        name: The name of the dataset.
        split: The name of the split.
        class_names: The class list, in label order.
        multi_label: A sample has all classes of the lines that name it. A column `label_weight` says how much a class
            applies, from 0 to 1.

    Returns:
        The manifest.

    Raises:
        ManifestError: A line cannot be read, a sample has several labels without `multi_label`, or no listed file
            exists; the message names file and line.
    """
    entries = list(read_list(Path(file)))
    names, labels = _labels(entries, class_names, str(file))
    of_split = _of_split(entries, split, str(file))
    listed = [_listed(entry, label) for entry, label, is_of in zip(entries, labels, of_split, strict=True) if is_of]
    finder = PathFinder(Path(root), kind)
    locations = _find(listed, finder, str(file))
    _refuse_header(listed, locations)
    lines = _by_sample(listed, locations)
    samples = [own[0] for own in lines] if multi_label else _once(lines, names, f"{name} {split}")
    found = [(sample, location) for sample, location in samples if location is not None]
    missing = [sample for sample, location in samples if location is None]
    if not found:
        raise ManifestError(
            f"none of the {len(missing)} files of {file} is in {root}, such as {shown(missing[0].path)}; give the "
            "folder that the paths are relative to with --root"
        )
    finder.notices.warn(Path(root))
    lists = _lists([own for own in lines if own[0][1] is not None]) if multi_label else {}
    (manifest,) = write_manifests({split: _located(found, lists)}, names, root=root, kind=kind, out=out, name=name)
    list_missing([(row.sample_id, names[row.label]) for row in missing], len(samples), out=out, name=name, split=split)
    return manifest


def _located(found: Sequence[tuple[_Listed, Location]], lists: Mapping[str, Sequence[Any]]) -> LocatedSplit:
    return LocatedSplit(
        [location for _, location in found],
        [row.label for row, _ in found],
        {
            "sample_id": [row.sample_id for row, _ in found],
            "start_seconds": [row.start_seconds for row, _ in found],
            "end_seconds": [row.end_seconds for row, _ in found],
            "num_frames": [
                row.num_frames if location.num_frames is None else location.num_frames for row, location in found
            ],
            "source_id": [row.source_id for row, _ in found],
            **lists,
        },
    )


def _find(listed: list[_Listed], finder: PathFinder, file: str) -> list[Location | None]:
    """Return the location of each sample.

    If a sample is not there as listed, a similar name that no other line has is used; backslashes in its id become
    slashes.
    """
    locations = [
        finder.find(row.path, num_frames=row.num_frames)
        for row in track(listed, f"Looking for the files of {file}"[:44])
    ]
    taken = {location[1:4] for location in locations if location is not None}
    alike = []
    for number, row in enumerate(listed):
        if locations[number] is not None:
            continue
        location = finder.find_alike(row.path, num_frames=row.num_frames)
        if location is not None and location[1:4] not in taken:
            locations[number] = location
            listed[number] = replace(row, sample_id=row.sample_id.replace("\\", "/"))
            alike.append(f"{row.path} as {location.name}")
    if alike:
        message = "%s: %s files are found under names with another suffix, slash or Unicode form, such as %s"
        logger.warning(message, file, f"{len(alike):,}", examples(alike))
    return locations


def _refuse_header(listed: Sequence[_Listed], locations: Sequence[Location | None]) -> None:
    """Refuse a first line that must be a header in unknown words.

    It is one if it alone names no file and its label occurs nowhere else.
    """
    first, *others = listed
    is_missing = locations[0] is None and any(locations)
    is_alone = all(row.label != first.label and row.entry.has_path for row in others)
    if first.entry.is_first and not first.entry.has_path and is_missing and is_alone:
        raise ManifestError(
            f"{first.entry.position}: there is no file {shown(first.path)}, so this looks like a header; call its "
            "columns path and label, or delete the line"
        )


_Line = tuple[_Listed, Location | None]


def _by_sample(listed: Sequence[_Listed], locations: Sequence[Location | None]) -> list[list[_Line]]:
    """Return the lines of each sample."""
    lines: dict[Hashable, list[_Line]] = {}
    for row, location in zip(listed, locations, strict=True):
        address = row.path if location is None else location[1:4]
        lines.setdefault((address, row.start_seconds, row.end_seconds), []).append((row, location))
    return list(lines.values())


def _once(samples: Sequence[Sequence[_Line]], names: Sequence[str], source: str) -> list[_Line]:
    """Return each sample once. Raises ManifestError for a sample with several labels, or with a weight of its label."""
    repeated = []
    if weighted := next((row for lines in samples for row, _ in lines if row.weight is not None), None):
        raise ManifestError(
            f"{weighted.entry.position}: label_weight = {weighted.weight:g} is for samples of several classes; pass "
            "--multi-label, or remove the column"
        )
    for (before, _), *others in samples:
        for row, _ in others:
            if before.label != row.label:
                raise ManifestError(
                    f"{row.entry.position}: {shown(row.path)} is {shown(names[row.label])}, but in "
                    f"{before.entry.position} {shown(names[before.label])}; a sample has one label: keep one of the "
                    "lines, or pass --multi-label"
                )
            repeated.append(row.sample_id)
    if repeated:
        message = "%s: %s lines repeat a sample, such as %s; each counts once"
        logger.warning(message, source, f"{len(repeated):,}", examples(repeated))
    return [lines[0] for lines in samples]


def _lists(samples: Sequence[Sequence[_Line]]) -> dict[str, list[Any]]:
    """Return the columns of multi-label samples: classes once each, and weights if a line has one."""
    classes = [{row.label: row.weight for row, _ in lines} for lines in samples]
    columns: dict[str, list[Any]] = {"labels": [list(own) for own in classes]}
    if any(weight is not None for own in classes for weight in own.values()):
        columns["label_weights"] = [[1.0 if weight is None else weight for weight in own.values()] for own in classes]
    return columns


def _labels(entries: Sequence[Entry], class_names: Sequence[str] | None, file: str) -> tuple[list[str], list[int]]:
    """Return the class names, and the label of each line.

    Raises ManifestError, naming the line, for an unknown class.
    """
    texts = [_label_text(entry) for entry in entries]
    names, label_of = classes_of(texts, file) if class_names is None else listed_classes(class_names, texts, file)
    for entry, text in zip(entries, texts, strict=True):
        if text not in label_of:
            raise ManifestError(
                f"{entry.position}: label '{shown(text)}' is outside the {len(names)} classes; labels are class names "
                f"or 0 to {len(names) - 1}: correct the line or the class list, in which `1 NAME` names class 1"
            )
    return names, [label_of[text] for text in texts]


def _label_text(entry: Entry) -> str:
    """Return the label of a line. Raises ManifestError, naming the line, if it has no label or no path."""
    for column in ("path", "label"):
        if not entry.values[column]:
            raise ManifestError(
                f"{entry.position}: the {column} is empty; every line needs one: fill it in, or delete the line"
            )
    text = composed(entry.values["label"])
    if (number_of(text) or 0) < 0:
        raise ManifestError(
            f"{entry.position}: label '{text}' is negative; labels are class names or numbers from 0: delete lines "
            "without a label"
        )
    return text


def _of_split(entries: Sequence[Entry], split: str, source: str) -> list[bool]:
    """Return whether each line belongs to `split`.

    Warns about lines that belong to no split. Raises ManifestError if none belongs to this one.
    """
    if "split" not in entries[0].values:
        return [True] * len(entries)
    values = [entry.values["split"].lower() for entry in entries]
    of_split = [SPLIT_NAMES.get(value, value) == split for value in values]
    counts = Counter(value or "nothing" for value in values)
    if not any(of_split):
        raise ManifestError(
            f"{source} lists nothing of split {split}; its split column has {_counted(counts)}: index one of these, "
            "and call it train, val or test in the column"
        )
    if unknown := counts - Counter({value: counts[value] for value in (*SPLIT_NAMES, split)}):
        message = "%s: %s lines belong to no split and are left out (their split column has %s); call it train, val or "
        logger.warning(message + "test to index them", source, f"{unknown.total():,}", _counted(unknown))
    return of_split


def _counted(values: Counter[str]) -> str:
    return examples(f"{value} ({count:,})" for value, count in values.most_common())


def _listed(entry: Entry, label: int) -> _Listed:
    path = entry.values["path"]
    start, end = entry.number("start_seconds", seconds), entry.number("end_seconds", seconds)
    if start is not None and end is not None and not start < end:
        raise ManifestError(
            f"{entry.position}: the segment begins at {start:g} s and ends at {end:g} s; correct the line"
        )
    segment = "" if start is None and end is None else f"@{start or 0:g}-{'' if end is None else format(end, 'g')}"
    return _Listed(
        entry,
        path + segment,
        path,
        label,
        start,
        end,
        entry.number("num_frames", whole_number),
        entry.values.get("source_id") or None,
        entry.number("label_weight", share),
    )
