"""The file of a manifest: sealed with the SHA-256 of its bytes when written, and checked before it is parsed.

    ARROW1 │ schema, with the metadata │ rows … │ footer: schema, {"sha256": "31f0…"} │ ARROW1

The seal is metadata of the file, which Arrow keeps in the footer. Other readers ignore it, and a table that another
program changes and writes again has none. The digest is that of the whole file with 64 zeros in its own place.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cover.core.atomic_files import whole_file
from cover.core.text_files import open_regular
from cover.datasets.manifest_rules import SCHEMA, Metadata, check_rows, check_unique
from cover.errors import ManifestError

_METADATA_KEY = b"cover"
_SEAL = b'{"sha256": "'  # class names cannot contain this, because JSON escapes their quotes
_NO_DIGEST = b"0" * 64


class Stamp(NamedTuple):
    """Distinguishes a file from one that has replaced it."""

    num_bytes: int
    modified_ns: int


@dataclass(frozen=True)
class ManifestFile:
    """The file of a manifest.

    Attributes:
        path: Where it is.
        table: Its rows, mapped into memory.
        metadata: The facts about the whole split.
        stamp: Its size and time of modification.
    """

    path: Path
    table: pa.Table
    metadata: Metadata
    stamp: Stamp

    def values(self, row: int) -> dict[str, Any]:
        """Return the values of a row, without columns that are empty throughout."""
        start, columns = self._batches[bisect_right(self._starts, row) - 1]
        return {name: column[row - start].as_py() for name, column in columns.items()}

    def sample_id(self, row: int) -> str:
        """Return the id of a row."""
        start, columns = self._batches[bisect_right(self._starts, row) - 1]
        return str(columns["sample_id"][row - start].as_py())

    @cached_property
    def labels(self) -> npt.NDArray[np.int32]:
        """The label of each row: int32 [rows], read-only."""
        labels: npt.NDArray[np.int32] = self.table["label"].to_numpy()
        return labels

    def lists(self, row: int) -> tuple[list[int], list[float] | None]:
        """Return the labels of a row of a multi-label manifest, and their weights."""
        start, columns = self._batches[bisect_right(self._starts, row) - 1]
        weights = columns.get("label_weights")
        return columns["labels"][row - start].as_py(), None if weights is None else weights[row - start].as_py()

    @cached_property
    def _batches(self) -> list[tuple[int, dict[str, pa.Array]]]:
        """The first row and the columns of each batch. Looking them up for every row would take most of its time."""
        batches, start = [], 0
        for batch in self.table.to_batches():
            columns = zip(batch.schema.names, batch.columns, strict=True)
            batches.append((start, {name: column for name, column in columns if column.null_count < len(column)}))
            start += len(batch)
        return batches

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _ in self._batches]

    @classmethod
    def open(cls, path: Path) -> ManifestFile:
        """Map a file and check it completely.

        Raises:
            ManifestError: It is missing, not a manifest, or damaged.
        """
        content, stamp = _mapped(path)
        is_sealed = _check_seal(content, path)
        table, metadata = _parsed(content, path)
        check_rows(table, len(metadata.class_names), str(path))
        if not is_sealed:  # the ids of a sealed file were checked before it was written
            check_unique(f"sample ids of {path}", table["sample_id"])
        return cls(path, table, metadata, stamp)

    @classmethod
    def open_again(cls, path: Path, stamp: Stamp) -> ManifestFile:
        """Map a file that another process has checked.

        Raises:
            ManifestError: It has been replaced since.
        """
        content, present = _mapped(path)
        if present != stamp:
            raise ManifestError(f"{path} has changed since it was opened; run the command again")
        return cls(path, *_parsed(content, path), stamp)

    @classmethod
    def write(cls, path: Path, table: pa.Table, metadata: Metadata) -> ManifestFile:
        """Write a sealed file atomically and open it.

        Raises:
            CoverError: It cannot be written.
        """
        table = table.replace_schema_metadata({_METADATA_KEY: metadata.to_json()})
        with whole_file(path) as unfinished:
            footer = {_METADATA_KEY: _SEAL + _NO_DIGEST + b'"}'}
            with pa.ipc.new_file(unfinished, table.schema, metadata=footer) as writer:
                writer.write_table(table)
            _seal(unfinished)
        return cls.open(path)


def with_absent_columns(table: pa.Table) -> pa.Table:
    """Return the table with a column of nulls for each nullable column that it lacks, as older manifests do."""
    for place, field in enumerate(SCHEMA):
        if field.nullable and field.name not in table.column_names:
            table = table.add_column(min(place, table.num_columns), field, pa.nulls(len(table), field.type))
    return table


def _mapped(path: Path) -> tuple[mmap.mmap, Stamp]:
    if os.path.isdir(path):
        raise ManifestError(f"{path} is a folder, not a manifest; make a manifest of it with `cover index`")
    try:
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            if not status.st_size:
                raise ValueError("it is empty")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), Stamp(status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        raise ManifestError(
            f"{path} does not exist; write it with `cover index`, or fix the path in the recipe"
        ) from None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}); name a manifest") from None
    except ValueError as error:  # for example, a pipe
        raise ManifestError(f"{path} is not a manifest ({error}); write one with `cover index`") from None


def _parsed(content: mmap.mmap, path: Path) -> tuple[pa.Table, Metadata]:
    try:
        reader = pa.ipc.open_file(pa.py_buffer(content))
        metadata = (reader.schema.metadata or {}).get(_METADATA_KEY)
        if not metadata:
            raise ValueError("it has no metadata")
        if not with_absent_columns(reader.schema.empty_table()).schema.equals(SCHEMA):
            raise ManifestError(
                f"{path} has other columns than this version's manifests; write it again with `cover index`"
            )
        table = with_absent_columns(reader.read_all())
        table.validate(full=True)
    except ManifestError:
        raise
    except Exception as error:  # Arrow raises many kinds of errors for hostile or incomplete files
        reason = " ".join(str(error).split())[:200]
        raise ManifestError(f"{path} is not a manifest ({reason}); write one with `cover index`") from error
    return table, Metadata.from_json(metadata, str(path))


def _seal(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.rfind(_SEAL) + len(_SEAL)
        digest = _digest(content, place)
        file.seek(place)
        file.write(digest)


def _check_seal(content: mmap.mmap, path: Path) -> bool:
    """Return whether the file has a seal. Raises ManifestError if the seal does not match."""
    place = content.rfind(_SEAL) + len(_SEAL)
    if place < len(_SEAL):
        return False
    if content[place : place + len(_NO_DIGEST)] != _digest(content, place):
        raise ManifestError(
            f"{path} is damaged, because its SHA-256 is not the one that it states; "
            "restore it from a copy, or write it again with `cover index`"
        )
    return True


def _digest(content: mmap.mmap, place: int) -> bytes:
    """Return the hexadecimal SHA-256 of a file with zeros for the digest at `place`."""
    with memoryview(content) as whole, whole[:place] as before, whole[place + len(_NO_DIGEST) :] as after:
        sha256 = hashlib.sha256(before)
        sha256.update(_NO_DIGEST)
        sha256.update(after)
    return sha256.hexdigest().encode()
