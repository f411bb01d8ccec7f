"""A manifest: one split of one dataset as an uncompressed Arrow IPC file with a row for each sample.

    sample_id    path         label  start_seconds  end_seconds  ...  readable  reason
    "run/a.mp4"  "run/a.mp4"      0           null         null  ...      null    null

All workers map the same file into memory, so a million rows take no memory in each worker. pandas, polars and DuckDB
read the file as it is. Facts about the whole split (name, kind, split, class names in label order, root of the paths)
are JSON in the schema's metadata, under the key `cover`.
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

# The columns that define a sample.
_IDENTITY = ["sample_id", "path", "offset", "length", "label", "start_seconds", "end_seconds"]

FINDINGS = ("num_frames", "fps", "duration_seconds", "width", "height", "rotation", "readable", "reason")
"""The columns about a sample's file that a check of the files fills in or corrects. They are not part of the digest."""


Moves = Mapping[Path, Path]
"""Old folder → new folder, both absolute: what was below the old folder is now below the new one."""


def moved_path(path: Path, moves: Moves) -> Path:
    """Return where an absolute path is after the moves. Of several old folders above it, the innermost counts."""
    above = [old for old in moves if path.is_relative_to(old)]
    if not above:
        return path
    innermost = max(above, key=lambda old: len(old.parts))
    return moves[innermost] / path.relative_to(innermost)


@dataclass(frozen=True)
class ManifestRow:
    """One sample. Null columns are None.

    `path`, `offset` and `length` say where it is:

        a file                path: the file       offset: null              length: null
        a folder of frames    path: the folder     offset: null              length: null    one image file a frame
        a member of a tar     path: the tar        offset: of its content    length: of its content, both in bytes
        a row of a Parquet    path: the Parquet    offset: row in the file   length: null

    Attributes:
        sample_id: Unique in the split.
        path: Relative to `root`, or absolute.
        label: The class, a number from 0.
        offset: See above.
        length: See above.
        start_seconds: Where the sample begins in the file; None is the beginning.
        end_seconds: Where the sample ends in the file; None is the end.
        num_frames: The number of frames of the file.
        fps: Its average frame rate.
        duration_seconds: Its length.
        width: In pixels, as shown.
        height: In pixels, as shown.
        rotation: In degrees; see MediaInfo.
        source_id: The recording from which the file was cut, such as a YouTube id.
        source_start_seconds: Where the file begins in that recording. Two samples that overlap there show the same
            scene.
        source_end_seconds: Where the file ends in that recording.
        readable: Whether a check could decode the file; None if it was not checked.
        reason: Why it could not.
        labels: All classes of a sample of a multi-label dataset, the first of which is `label`.
        label_weights: The target of each of them, from 0 to 1; None is 1.
        root: The folder that paths are relative to.
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
    labels: Sequence[int] | None = None
    label_weights: Sequence[float] | None = None
    root: Path = Path()

    @property
    def file(self) -> Path:
        """The path of the media file."""
        return self.root / self.path

    @property
    def is_folder(self) -> bool:
        """Whether the sample is a folder of frames. A folder that cannot be reached counts as a file."""
        return self.offset is None and os.path.isdir(self.file)


class Manifest:
    """A manifest on disk: a sequence of ManifestRows. It pickles as its path, so workers share the mapped file.

    Use `Manifest.open` to open one.

    Args:
        file: The open file.
        rows: int64, the rows of the file that are samples here, in this order; None is all of them.
        moves: As in `relocated`.

    Attributes:
        path: The path of the file.
        name: The name of the dataset.
        kind: "video" or "image".
        split: The name of the split.
        class_names: In label order.
        root: The folder that paths are relative to.
    """

    def __init__(
        self,
        file: ManifestFile,
        *,
        rows: npt.NDArray[np.int64] | None = None,
        moves: Moves | None = None,
    ) -> None:
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
        """Map the file at `path` into memory.

        Raises:
            ManifestError: It is missing, not a manifest, or damaged.
        """
        return cls(ManifestFile.open(Path(path).absolute()))

    def without(self, sample_ids: Iterable[str]) -> Manifest:
        """Return a view of the same file without these samples. It takes 8 bytes a row.

        Args:
            sample_ids: The samples to leave out. Ids that the manifest does not have are ignored.
        """
        excluded = pc.is_in(self.table["sample_id"], value_set=pa.array(sample_ids, pa.string()))
        kept = np.flatnonzero(~excluded.to_numpy())
        return Manifest(self._file, rows=kept if self._rows is None else self._rows[kept], moves=self._moves)

    def relocated(self, moves: Moves) -> Manifest:
        """Return a view of the same file whose media files are read from other folders.

        Args:
            moves: Old folder → new folder, both absolute.
        """
        return Manifest(self._file, rows=self._rows, moves=self._moves | dict(moves))

    def _root(self) -> Path:
        """Return the folder that paths are relative to.

        If the stored root is gone, this is the folder at the same place relative to the manifest, if there is one.
        """
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
        """The samples as a pyarrow Table, for work on whole columns. A view's table is a copy."""
        return self._file.table if self._rows is None else self._file.table.take(self._rows)

    @property
    def num_excluded(self) -> int:
        """How many samples of the file this view leaves out."""
        return int(self._file.table.num_rows) - len(self)

    def __len__(self) -> int:
        return int(self._file.table.num_rows) if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> ManifestRow:
        return self._row(self._file.values(self._row_of_file(index)))

    def sample_ids(self, indices: Iterable[int]) -> list[str]:
        """Return the ids of some rows.

        Raises:
            IndexError: A row does not exist.
        """
        return [self._file.sample_id(self._row_of_file(index)) for index in indices]

    def labels_of(self, indices: Iterable[int]) -> npt.NDArray[np.int32]:
        """Return the labels of some rows: int32 [indices].

        Raises:
            IndexError: A row does not exist.
        """
        return self._file.labels[[self._row_of_file(index) for index in indices]]

    def classes_of(self, row: ManifestRow) -> tuple[str, ...]:
        """Return the names of a sample's classes, of which multi-label datasets have several."""
        return tuple(self.class_names[label] for label in row.labels or (row.label,))

    @cached_property
    def is_multi_label(self) -> bool:
        """Whether samples have lists of classes."""
        return bool(self._file.table["labels"].null_count == 0)

    def targets_of(self, indices: Iterable[int]) -> npt.NDArray[np.float32]:
        """Return how much each class applies to some rows: float32 [indices, classes], from 0 to 1.

        Raises:
            IndexError: A row does not exist.
        """
        rows = [self._row_of_file(index) for index in indices]
        targets = np.zeros((len(rows), len(self.class_names)), np.float32)
        if not self.is_multi_label:
            targets[np.arange(len(rows)), self._file.labels[rows]] = 1
        for place, row in enumerate(rows if self.is_multi_label else ()):
            classes, weights = self._file.lists(row)
            targets[place, classes] = 1 if weights is None else weights
        return targets

    def _row_of_file(self, index: int) -> int:
        """Return the row of the file for a row of this view. Raises IndexError."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)} rows of {self.path}")
        return index if self._rows is None else int(self._rows[index])

    def __iter__(self) -> Iterator[ManifestRow]:
        for batch in self.table.to_batches(max_chunksize=4096):
            yield from map(self._row, batch.to_pylist())

    def has_samples_of(self, other: Manifest) -> bool:
        """Whether two manifests have the same sample ids in the same order."""
        return bool(self.table["sample_id"].equals(other.table["sample_id"]))

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """The label of each sample: int32 [rows]. Do not change it."""
        return self._file.labels if self._rows is None else self._file.labels[self._rows]

    def class_counts(self) -> npt.NDArray[np.int64]:
        """Count the samples of each class: int64 [classes]. A sample of several classes counts for each."""
        column = self.table["labels"]
        labels = pc.list_flatten(column).to_numpy() if self.is_multi_label else self.labels
        return np.bincount(labels, minlength=len(self.class_names))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the samples are: their ids, paths, segments and labels, and name, kind and class names.

        It does not depend on the root and on what a check found out about the files.
        """
        hasher = _HashingFile()
        hasher.write(json.dumps([self.name, self.kind, self.class_names]).encode())
        pyarrow.csv.write_csv(self.table.select(_IDENTITY), hasher)
        for column in ("labels", "label_weights") if self.is_multi_label else ():
            hasher.write(json.dumps(self.table[column].to_pylist()).encode())
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
    """Write a manifest atomically and open it.

    Values of FINDINGS that are out of bounds become unknown, with a warning.

    Args:
        path: The file to write.
        rows: Rows, or columns: name → a value for each row. Nullable columns may be missing. A million rows are written
            about ten times as fast from columns.
        name: The name of the dataset.
        kind: "video" or "image".
        split: The name of the split.
        class_names: In label order.
        root: The folder that paths are relative to. It is also stored relative to the manifest's folder, so that both
            can move together.

    Raises:
        ManifestError: There are no rows, a label is outside `class_names`, a sample id or class name occurs twice, a
            value is missing or out of bounds, such as a time before 0, a name has control characters, or the name of a
            file is not UTF-8.
        CoverError: The file cannot be written.
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
    """Replace columns of the manifest's file by what a check of its files found, and open it again. The digest stays.

    The file is replaced atomically; processes that have mapped the old one continue to read it.

    Args:
        manifest: The manifest.
        findings: Some of FINDINGS → a value for each row, in the rows' order; None is null. Other columns stay as they
            are.

    Raises:
        ManifestError: The file has been replaced since `manifest` was opened.
        CoverError: The file cannot be written.
    """
    if others := findings.keys() - set(FINDINGS):
        raise ValueError(f"{', '.join(sorted(others))} is not a finding; findings are {', '.join(FINDINGS)}")
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
    """A file that keeps only the hash of what is written to it."""

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
