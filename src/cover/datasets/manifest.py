"""A manifest: one split of one dataset as an uncompressed Arrow IPC file, one row a sample.

    sample_id    path         label  start_seconds  end_seconds  ...  readable  reason
    "run/a.mp4"  "run/a.mp4"      0           null         null  ...      null    null

Every worker maps the same file into memory, so a million rows cost no memory per worker; pandas, polars and DuckDB
read it as it is. What concerns the whole split (name, kind, split, class names in label order, root of the paths)
is JSON in the schema's metadata, under the key `cover`.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from cover.datasets.manifest_file import ManifestFile, Stamp, with_absent_columns
from cover.datasets.manifest_rules import SCHEMA, Metadata, check_rows, check_unique, without_impossible
from cover.datasets.names import Kind
from cover.errors import ManifestError

# What a sample *is*.
_IDENTITY = ["sample_id", "path", "offset", "length", "label", "start_seconds", "end_seconds"]

FINDINGS = ("num_frames", "fps", "duration_seconds", "width", "height", "rotation", "readable", "reason")
"""The columns about a sample's file that a check of the files fills in or corrects; they are not part of the digest."""


Moves = Mapping[Path, Path]
"""Old folder → new folder, both absolute: what was below an old folder lies below the new one now."""


def moved_path(path: Path, moves: Moves) -> Path:
    """Where an absolute path lies after the moves; of several old folders above it the innermost counts."""
    above = [old for old in moves if path.is_relative_to(old)]
    if not above:
        return path
    innermost = max(above, key=lambda old: len(old.parts))
    return moves[innermost] / path.relative_to(innermost)


@dataclass(frozen=True)
class ManifestRow:
    """One sample. Null columns are None.

    path, offset, length: where it is; the path is relative to `root`, or absolute. One of

        a file                path: the file       offset: null              length: null
        a folder of frames    path: the folder     offset: null              length: null    one image file a frame
        a member of a tar     path: the tar        offset: of its content    length: of its content, both in bytes
        a row of a Parquet    path: the Parquet    offset: row in the file   length: null

    start_seconds, end_seconds: the segment of the file that is the sample; null means from the start, to the end.
    source_id, source_start_seconds, source_end_seconds: which recording the file was cut from (such as a YouTube id),
    and between which times of that recording. Two samples of one source that overlap there show the same scene.
    readable, reason: what a check of the file found; null means not checked.
    """

    sample_id: str
    path: str
    label: int
    offset: int | None = None
    length: int | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    num_frames: int | None = None
    fps: float | None = None
    duration_seconds: float | None = None
    width: int | None = None
    height: int | None = None
    rotation: int | None = None
    source_id: str | None = None
    source_start_seconds: float | None = None
    source_end_seconds: float | None = None
    readable: bool | None = None
    reason: str | None = None
    root: Path = Path()

    @property
    def file(self) -> Path:
        """Where the media file lies."""
        return self.root / self.path


class Manifest:
    """A manifest on disk: a sequence of ManifestRows. It pickles as its path, so workers share the mapped file.

    name, kind, split, class_names (in label order), root: of the whole split.
    """

    def __init__(
        self,
        file: ManifestFile,
        *,
        rows: npt.NDArray[np.int64] | None = None,
        moves: Moves | None = None,
    ) -> None:
        """rows: of the file that are samples here, in their order; None is all of them. moves: as in `relocated`."""
        self._file = file
        self._rows = rows
        self._moves = dict(moves or {})
        self.path = file.path
        self.name: str = file.metadata.name
        self.kind: Kind = file.metadata.kind
        self.split: str = file.metadata.split
        self.class_names: tuple[str, ...] = file.metadata.class_names
        self.root: Path = self._root()

    @classmethod
    def open(cls, path: str | Path) -> Manifest:
        """Map the file at `path` into memory. Raises ManifestError when it is missing, no manifest, or damaged."""
        return cls(ManifestFile.open(Path(path).absolute()))

    def without(self, sample_ids: Iterable[str]) -> Manifest:
        """A view of the same file less these samples, in 8 bytes a row; ids that it does not have change nothing."""
        excluded = pc.is_in(self.table["sample_id"], value_set=pa.array(sample_ids, pa.string()))
        kept = np.flatnonzero(~excluded.to_numpy())
        return Manifest(self._file, rows=kept if self._rows is None else self._rows[kept], moves=self._moves)

    def relocated(self, moves: Moves) -> Manifest:
        """A view of the same file whose media are read from other places."""
        return Manifest(self._file, rows=self._rows, moves=self._moves | dict(moves))

    def _root(self) -> Path:
        """The stored root, or if it is gone, the folder at the same place relative to this manifest if there is one."""
        metadata, folder = self._file.metadata, self.path.parent
        stored = folder / metadata.root
        moved = moved_path(stored, self._moves)
        if moved != stored or metadata.relative_root is None or os.path.isdir(stored):
            return moved
        beside = folder / metadata.relative_root
        return moved_path(beside.resolve(), self._moves) if os.path.isdir(beside) else stored

    def _row(self, values: Mapping[str, Any]) -> ManifestRow:
        row = ManifestRow(**values, root=self.root)
        if self._moves and row.path.startswith("/"):
            return replace(row, path=str(moved_path(Path(row.path), self._moves)))
        return row

    @property
    def table(self) -> pa.Table:
        """The samples as a pyarrow Table, for work on whole columns: the mapped file, but a copy of a view's rows."""
        return self._file.table if self._rows is None else self._file.table.take(self._rows)

    @property
    def num_excluded(self) -> int:
        """Samples of the file that this view leaves out."""
        return int(self._file.table.num_rows) - len(self)

    def __len__(self) -> int:
        return int(self._file.table.num_rows) if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> ManifestRow:
        row = int(self._rows_of_file([index])[0])
        return self._row({name: self._file.table[name][row].as_py() for name in SCHEMA.names})

    def rows(self, indices: Sequence[int]) -> list[ManifestRow]:
        """Several rows at once, which is faster than one by one. Raises IndexError, as for a single one."""
        table = self._file.table.take(self._rows_of_file(indices))
        return [self._row(values) for values in table.to_pylist()]

    def _rows_of_file(self, indices: Sequence[int]) -> npt.NDArray[np.int64]:
        """Where rows of this view are in the file. Raises IndexError."""
        places = np.asarray(indices, np.int64)
        if len(outside := places[(places < 0) | (places >= len(self))]):
            raise IndexError(f"row {outside[0]} of {len(self)} rows of {self.path}")
        return places if self._rows is None else self._rows[places]

    def __iter__(self) -> Iterator[ManifestRow]:
        for batch in self.table.to_batches(max_chunksize=4096):
            yield from map(self._row, batch.to_pylist())

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """int32 [rows], read-only."""
        return self.table["label"].to_numpy()  # type: ignore[no-any-return]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of which samples these are: their ids, paths, segments and labels, and name, kind and class names.

        Neither the root nor what a check found out about the files is part of it.
        """
        hasher = _HashingFile()
        hasher.write(json.dumps([self.name, self.kind, self.class_names]).encode())
        pyarrow.csv.write_csv(self.table.select(_IDENTITY), hasher)
        return hasher.sha256.hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self._file.stamp, self._rows, self._moves)

    def __repr__(self) -> str:
        return f"Manifest({self.name} {self.split}: {len(self)} {self.kind}s, {len(self.class_names)} classes)"


def write_manifest(
    path: str | Path,
    rows: Iterable[ManifestRow | Mapping[str, Any]] | Mapping[str, Sequence[Any]],
    *,
    name: str,
    kind: Kind,
    split: str,
    class_names: Sequence[str],
    root: str | Path,
) -> Manifest:
    """Write `rows` to `path` and open it. The file appears whole or not at all.

    rows: rows, or columns: name → a value a row, of which nullable ones may be absent; a million rows are written some
    ten times as fast from columns.
    root: folder that the rows' paths are relative to. It is stored relative to the manifest's own folder as well, so
    that the two can move together.

    Raises ManifestError for no rows, a label outside `class_names`, a sample id or class name that occurs twice, a
    missing value, a value out of bounds such as a time before 0, names with control characters, and files whose names
    are not UTF-8. Findings out of bounds are left unknown, with a warning.
    """
    path = Path(path).absolute()
    root, folder = Path(root).resolve(), path.parent.resolve()
    relative_root = os.path.relpath(root, folder)
    metadata = Metadata.of(
        {
            "name": name,
            "kind": kind,
            "split": split,
            "class_names": list(class_names),
            "root": relative_root if root.is_relative_to(folder) else str(root),
            "relative_root": relative_root,
        },
        str(path),
    )
    table = _table(rows, name)
    check_unique(f"sample ids of {name}", table["sample_id"])
    return _write(path, table, metadata)


def write_findings(manifest: Manifest, findings: Mapping[str, Sequence[Any]]) -> Manifest:
    """Replace columns of `manifest`'s file by what a check of its media found, and open it anew; the digest stays.

    findings: any of FINDINGS → a value a row, in the rows' order; None is null. The other columns keep what they have.
    The file is replaced whole or not at all; processes that have the old one mapped keep reading it.

    Raises ManifestError if the file has been replaced since `manifest` was opened.
    """
    if others := findings.keys() - set(FINDINGS):
        raise ValueError(f"{', '.join(sorted(others))} is no finding; findings are {', '.join(FINDINGS)}")
    ManifestFile.open_again(manifest.path, manifest._file.stamp)
    table = manifest.table
    for column, values in findings.items():
        field = SCHEMA.field(column)
        table = table.set_column(SCHEMA.get_field_index(column), field, pa.array(values, field.type))
    return _write(manifest.path, table, manifest._file.metadata)


def _write(path: Path, table: pa.Table, metadata: Metadata) -> Manifest:
    table = without_impossible(table, FINDINGS, metadata.name)
    check_rows(table, len(metadata.class_names), metadata.name)
    return Manifest(ManifestFile.write(path, table, metadata))


def _reopened(path: Path, stamp: Stamp, rows: npt.NDArray[np.int64] | None, moves: Moves) -> Manifest:
    return Manifest(ManifestFile.open_again(path, stamp), rows=rows, moves=moves)


class _HashingFile(io.RawIOBase):
    """A file that keeps nothing but the hash of what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return len(data)


def _table(rows: Iterable[ManifestRow | Mapping[str, Any]] | Mapping[str, Sequence[Any]], name: str) -> pa.Table:
    try:
        table = _from_columns(rows) if isinstance(rows, Mapping) else _from_rows(rows)
    except UnicodeEncodeError as error:
        raise ManifestError(f"{error.object!r} in {name} is not UTF-8; rename the file") from error
    except (pa.ArrowException, OverflowError) as error:  # not a number, or too large for its column
        reason = " ".join(str(error).split())
        raise ManifestError(f"{name} has a value of the wrong kind ({reason}); correct it and index again") from error
    return table


def _from_rows(rows: Iterable[ManifestRow | Mapping[str, Any]]) -> pa.Table:
    values = (vars(row) if isinstance(row, ManifestRow) else row for row in rows)
    batches = iter(lambda: list(itertools.islice(values, 65536)), [])
    return pa.Table.from_batches(
        [pa.RecordBatch.from_pylist(batch, schema=SCHEMA) for batch in batches], SCHEMA
    ).combine_chunks()


def _from_columns(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    fields = [field for field in SCHEMA if field.name in columns]
    return with_absent_columns(pa.table([pa.array(columns[f.name], f.type) for f in fields], schema=pa.schema(fields)))
