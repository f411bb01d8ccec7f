"""Any annotation list → a manifest, in the forms in which lists exist.

run/a.mp4 0       run/a 300 0       path,label,start_seconds,end_seconds,split
jump/b.mp4 1      jump/b 250 1      run/a.mp4,running,2.0,12.0,train

Lines are `path label` or `path num_frames label`, or have the columns that a
header names. They are separated by tabs, commas or spaces, whichever the
first line has, in this order; paths with separators are put in quotes. A path
is that of a file, of a folder of frames, or of what a tar beside it or in a
folder above would unpack to.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from cover.catalog.class_names import is_number, names_of
from cover.catalog.finder import PathFinder
from cover.catalog.manifest import Manifest, ManifestRow, write_manifest
from cover.catalog.missing import list_missing
from cover.catalog.place import Place
from cover.catalog.suffixes import SPLIT_NAMES, Kind
from cover.errors import ManifestError
from cover.progress import track

logger = logging.getLogger(__name__)

COLUMNS = ("path", "label", "start_seconds", "end_seconds", "num_frames", "split", "source_id")
_WITHOUT_HEADER = {2: ["path", "label"], 3: ["path", "num_frames", "label"]}

Value = TypeVar("Value", int, float)


@dataclass(frozen=True)
class _Entry:
    """One line of a list, and where it stands for messages."""

    place: str
    values: dict[str, str]

    def number(self, column: str, parse: Callable[[str], Value]) -> Value | None:
        text = self.values.get(column, "")
        if not text:
            return None
        try:
            return parse(text)
        except ValueError:
            raise ManifestError(
                f"{self.place}: {column} is {text!r}; it takes a number or nothing; put paths with separators in quotes"
            ) from None


def index_annotations(
    file: str | Path,
    *,
    kind: Kind,
    root: str | Path,
    out: str | Path,
    name: str,
    split: str,
    class_names: Sequence[str] | None = None,
) -> Manifest:
    """Write OUT/NAME-SPLIT.arrow for the media files that the list `file` names, relative to `root`.

    Lines are `path label` or `path num_frames label`, or have the columns that a header names (COLUMNS; others are
    ignored); of a list with a `split` column only the lines of `split` are taken. Labels are class names, or numbers
    into `class_names`. Without `class_names` they are what the whole list has: the names, sorted, or 0 to the largest
    number. Listed files that do not exist are left out, counted in the log, and listed in OUT/NAME-SPLIT.missing.txt.

    Raises ManifestError, naming file and line, for what cannot be read so, and when no listed file exists.
    """
    entries = list(_entries(Path(file)))
    names = names_of(entry.values["label"] for entry in entries) if class_names is None else list(class_names)
    label_of = {class_name: label for label, class_name in enumerate(names)}
    chosen = [entry for entry in entries if _is_of(entry, split)]
    if not chosen:
        raise ManifestError(f"{file} lists nothing of split {split}; name a split that its split column has")
    rows = [_row(entry, label_of) for entry in chosen]
    finder = PathFinder(Path(root), kind)
    places = [
        finder.find(row.path, num_frames=row.num_frames) for row in track(rows, f"Looking for the files of {file}"[:44])
    ]
    missing = [row for row, place in zip(rows, places, strict=True) if place is None]
    if len(missing) == len(rows):
        raise ManifestError(
            f"none of the {len(rows)} files of {file} is in {root}, as {missing[0].path}; mend the root"
        )
    list_missing([(row.sample_id, names[row.label]) for row in missing], len(rows), out=out, name=name, split=split)
    return write_manifest(
        Path(out) / f"{name}-{split}.arrow",
        (_at(row, place) for row, place in zip(rows, places, strict=True) if place is not None),
        name=name,
        kind=kind,
        split=split,
        class_names=names,
        root=root,
    )


def _at(row: ManifestRow, place: Place) -> ManifestRow:
    num_frames = row.num_frames if place.num_frames is None else place.num_frames
    return replace(row, path=place.path, offset=place.offset, length=place.length, num_frames=num_frames)


def _entries(file: Path) -> Iterator[_Entry]:
    if not file.is_file():
        raise ManifestError(f"{file} does not exist; give the annotation list")
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise ManifestError(f"{file} is not UTF-8 text; save it as such") from None
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line]
    if not filled:
        raise ManifestError(f"{file} is empty; it takes a line a sample: `path label`")
    first = filled[0][1]
    delimiter = "\t" if "\t" in first else "," if "," in first else " "
    header: list[str] | None = None
    for number, line in filled:
        fields = [field.strip() for field in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
        if header is None:
            header, is_header = _header(f"{file}:{number}", fields)
            if is_header:
                continue
        if len(fields) != len(header):
            raise ManifestError(
                f"{file}:{number}: {len(fields)} fields in {line!r}; the first line has {len(header)}: "
                "put paths with separators in quotes"
            )
        yield _Entry(f"{file}:{number}", dict(zip(header, fields, strict=True)))


def _header(place: str, fields: list[str]) -> tuple[list[str], bool]:
    """Names of the columns, and whether the first line was itself the header."""
    named = [field.lower() for field in fields]
    if "path" in named or "label" in named:
        for column in ("path", "label"):
            if named.count(column) != 1:
                raise ManifestError(f"{place}: columns {', '.join(named)}; exactly one must be called {column}")
        ignored = [column for column in named if column not in COLUMNS]
        if ignored:
            logger.warning("%s: columns %s are ignored; used are %s", place, ", ".join(ignored), ", ".join(COLUMNS))
        return named, True
    if len(fields) not in _WITHOUT_HEADER:
        raise ManifestError(
            f"{place}: {len(fields)} fields without a header; lines are `path label` or `path num_frames label`, "
            f"or the first line names the columns: {', '.join(COLUMNS)}"
        )
    return _WITHOUT_HEADER[len(fields)], False


def _is_of(entry: _Entry, split: str) -> bool:
    if "split" not in entry.values:
        return True
    value = entry.values["split"].lower()
    return SPLIT_NAMES.get(value, value) == split


def _row(entry: _Entry, label_of: dict[str, int]) -> ManifestRow:
    path, label = entry.values["path"], entry.values["label"]
    number = int(label) if is_number(label) else -1
    if label not in label_of and not 0 <= number < len(label_of):
        raise ManifestError(
            f"{entry.place}: label {label!r} is outside the {len(label_of)} classes; labels are class names or "
            f"0 to {len(label_of) - 1}: mend the line or the class list"
        )
    start, end = entry.number("start_seconds", float), entry.number("end_seconds", float)
    if start is not None and end is not None and not start < end:
        raise ManifestError(f"{entry.place}: the segment begins at {start:g} s and ends at {end:g} s; mend the line")
    segment = "" if start is None and end is None else f"@{start or 0:g}-{'' if end is None else format(end, 'g')}"
    return ManifestRow(
        path + segment,
        path,
        label_of.get(label, number),
        start_seconds=start,
        end_seconds=end,
        num_frames=entry.number("num_frames", int),
        source_id=entry.values.get("source_id") or None,
    )
