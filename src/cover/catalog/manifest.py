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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from cover.catalog.suffixes import Kind
from cover.errors import ManifestError
from cover.whole_files import whole_file

SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("start_seconds", pa.float64()),
        pa.field("end_seconds", pa.float64()),
        pa.field("num_frames", pa.int64()),
        pa.field("fps", pa.float64()),
        pa.field("duration_seconds", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("rotation", pa.int32()),
        pa.field("source_id", pa.string()),
        pa.field("source_start_seconds", pa.float64()),
        pa.field("source_end_seconds", pa.float64()),
        pa.field("readable", pa.bool_()),
        pa.field("reason", pa.string()),
    ]
)

# What a sample *is*.
_IDENTITY = ["sample_id", "path", "offset", "length", "label", "start_seconds", "end_seconds"]

FINDINGS = ("num_frames", "fps", "duration_seconds", "width", "height", "rotation", "readable", "reason")
"""The columns about a sample's file that a check of the files fills in or corrects; they are not part of the digest."""
_METADATA_KEY = b"cover"


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
        self, path: Path, table: pa.Table, metadata: Mapping[str, Any], rows: npt.NDArray[np.int64] | None = None
    ) -> None:
        """rows: of the table that are samples here, in their order; None is all of them."""
        self.path = path
        self._table = table
        self._metadata = metadata
        self._rows = rows
        self.name: str = metadata["name"]
        self.kind: Kind = metadata["kind"]
        self.split: str = metadata["split"]
        self.class_names: tuple[str, ...] = tuple(metadata["class_names"])
        self.root: Path = path.parent / metadata["root"]

    @classmethod
    def open(cls, path: str | Path) -> Manifest:
        """Map the file at `path` into memory. Raises ManifestError when it is missing, no manifest, or damaged."""
        path = Path(path).absolute()
        if path.is_dir():
            raise ManifestError(f"{path} is a folder, not a manifest; `cover index` writes manifests of folders")
        if not path.is_file():
            raise ManifestError(f"{path} does not exist; write it with `cover index`, or mend the path in the recipe")
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            metadata = json.loads(table.schema.metadata[_METADATA_KEY])
        except (pa.ArrowException, OSError, TypeError, KeyError, ValueError) as error:
            raise ManifestError(f"{path} is not a manifest; write one with `cover index`") from error
        table = _with_absent_columns(table)
        if not table.schema.equals(SCHEMA):
            raise ManifestError(f"{path} has other columns than this version's manifests; write it anew: `cover index`")
        _check_labels(table, metadata["name"], metadata["class_names"])
        return cls(path, table, metadata)

    def without(self, sample_ids: Iterable[str]) -> Manifest:
        """A view of the same file less these samples, in 8 bytes a row; ids that it does not have change nothing."""
        excluded = pc.is_in(self.table["sample_id"], value_set=pa.array(sample_ids, pa.string()))
        kept = np.flatnonzero(~excluded.to_numpy())
        return Manifest(self.path, self._table, self._metadata, kept if self._rows is None else self._rows[kept])

    @property
    def table(self) -> pa.Table:
        """The samples as a pyarrow Table, for work on whole columns: the mapped file, but a copy of a view's rows."""
        return self._table if self._rows is None else self._table.take(self._rows)

    @property
    def num_excluded(self) -> int:
        """Samples of the file that this view leaves out."""
        return int(self._table.num_rows) - len(self)

    def __len__(self) -> int:
        return int(self._table.num_rows) if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> ManifestRow:
        row = int(self._rows_of_file([index])[0])
        values = {name: self._table[name][row].as_py() for name in SCHEMA.names}
        return ManifestRow(**values, root=self.root)

    def rows(self, indices: Sequence[int]) -> list[ManifestRow]:
        """Several rows at once, which is faster than one by one. Raises IndexError, as for a single one."""
        table = self._table.take(self._rows_of_file(indices))
        return [ManifestRow(**values, root=self.root) for values in table.to_pylist()]

    def _rows_of_file(self, indices: Sequence[int]) -> npt.NDArray[np.int64]:
        """Where rows of this view are in the file. Raises IndexError."""
        places = np.asarray(indices, np.int64)
        if len(outside := places[(places < 0) | (places >= len(self))]):
            raise IndexError(f"row {outside[0]} of {len(self)} rows of {self.path}")
        return places if self._rows is None else self._rows[places]

    def __iter__(self) -> Iterator[ManifestRow]:
        for batch in self.table.to_batches(max_chunksize=4096):
            yield from (ManifestRow(**values, root=self.root) for values in batch.to_pylist())

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
        return _reopened, (self.path, self._rows)

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
    root: folder that the rows' paths are relative to. A root inside the manifest's own folder is stored relative to
    it, so that the two can move together.

    Raises ManifestError for no rows, a label outside `class_names`, a sample id or class name that occurs twice, a
    missing value, and a file name that is not UTF-8.
    """
    path = Path(path).absolute()
    table = _table(rows, name)
    _check_labels(table, name, class_names)
    _check_unique(f"sample ids of {name}", table["sample_id"])
    _check_unique(f"class names of {name}", pa.chunked_array([list(class_names)], pa.string()))
    root = Path(root).resolve()
    folder = path.parent.resolve()
    stored_root = str(root.relative_to(folder) if root.is_relative_to(folder) else root)
    metadata = {"name": name, "kind": kind, "split": split, "class_names": list(class_names), "root": stored_root}
    return _save(path, table.replace_schema_metadata({_METADATA_KEY: json.dumps(metadata).encode()}))


def write_findings(manifest: Manifest, findings: Mapping[str, Sequence[Any]]) -> Manifest:
    """Replace columns of `manifest`'s file by what a check of its media found, and open it anew; the digest stays.

    findings: any of FINDINGS → a value a row, in the rows' order; None is null. The other columns keep what they have.
    The file is replaced whole or not at all, and who has the old one mapped goes on reading that.
    """
    if others := findings.keys() - set(FINDINGS):
        raise ValueError(f"{', '.join(sorted(others))} is no finding; findings are {', '.join(FINDINGS)}")
    table = manifest.table
    for column, values in findings.items():
        field = SCHEMA.field(column)
        table = table.set_column(SCHEMA.get_field_index(column), field, pa.array(values, field.type))
    return _save(manifest.path, table)


def _save(path: Path, table: pa.Table) -> Manifest:
    with whole_file(path) as unfinished, pa.ipc.new_file(unfinished, table.schema) as writer:
        writer.write_table(table)
    return Manifest.open(path)


def _reopened(path: Path, rows: npt.NDArray[np.int64] | None) -> Manifest:
    whole = Manifest.open(path)
    return Manifest(path, whole._table, whole._metadata, rows)


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
    if not len(table):
        raise ManifestError(f"{name} has no samples; a manifest takes at least one")
    for column in ("sample_id", "path", "label"):
        if table[column].null_count:
            raise ManifestError(f"a sample of {name} has no {column}; every sample takes one")
    return table


def _from_rows(rows: Iterable[ManifestRow | Mapping[str, Any]]) -> pa.Table:
    values = (vars(row) if isinstance(row, ManifestRow) else row for row in rows)
    batches = iter(lambda: list(itertools.islice(values, 65536)), [])
    return pa.Table.from_batches(
        [pa.RecordBatch.from_pylist(batch, schema=SCHEMA) for batch in batches], SCHEMA
    ).combine_chunks()


def _from_columns(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    fields = [field for field in SCHEMA if field.name in columns]
    return _with_absent_columns(pa.table([pa.array(columns[f.name], f.type) for f in fields], schema=pa.schema(fields)))


def _with_absent_columns(table: pa.Table) -> pa.Table:
    """`table` with a column of nulls for each nullable column of SCHEMA that it lacks, as older manifests do."""
    for place, field in enumerate(SCHEMA):
        if field.nullable and field.name not in table.column_names:
            table = table.add_column(min(place, table.num_columns), field, pa.nulls(len(table), field.type))
    return table


def _check_labels(table: pa.Table, name: str, class_names: Sequence[str]) -> None:
    labels = table["label"].to_numpy()
    outside = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if len(outside):
        row = int(outside[0])
        raise ManifestError(
            f"label {labels[row]} of {name}'s sample {table['sample_id'][row]} is outside its {len(class_names)} "
            f"classes; labels are 0 to {len(class_names) - 1}: mend the label or the class list"
        )


def _check_unique(what: str, values: pa.ChunkedArray) -> None:
    if pc.count_distinct(values).as_py() == len(values):
        return
    counts = values.value_counts()
    twice = next(count["values"] for count in counts if count["counts"].as_py() > 1)
    raise ManifestError(f"{twice} occurs more than once among the {what}; each must be there once")
