"""Where the bytes of a sample lie.

    path                  offset  length
    clips/a.mp4                            the whole file
    shards/0001.tar         1536   21892   so many bytes of it: a member of a tar
    data/0001.parquet         17           the image or video in row 17, counted from 0
    frames/a                               no bytes but a folder of frames

A folder of frames has no source; each of its images has one (frame_folder.py).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import pyarrow.parquet as pq

from cover.catalog.manifest import ManifestRow
from cover.errors import DecodeError


@dataclass(frozen=True)
class Source:
    """A file, or the part of it that one sample is. `str` names it for messages."""

    path: Path
    offset: int | None = None
    length: int | None = None

    @classmethod
    def of(cls, sample: ManifestRow | Source | str | Path) -> Source:
        """Of a row of a manifest; a path stands for its whole file."""
        if isinstance(sample, Source):
            return sample
        if isinstance(sample, ManifestRow):
            return cls(sample.file, sample.offset, sample.length)
        return cls(Path(sample))

    def open(self) -> BinaryIO:
        """The bytes of the sample, read-only; of a shard, no others are held."""
        if self.offset is None:
            return self.path.open("rb")
        if self.length is None:
            return io.BytesIO(_parquet_cell(self.path, self.path.stat().st_mtime_ns, self.offset))
        with self.path.open("rb") as shard:
            shard.seek(self.offset)
            return io.BytesIO(shard.read(self.length))

    def for_ffmpeg(self) -> str | BinaryIO:
        """What FFmpeg opens: a path, a window of a shard in its own words (protocol `subfile`), or bytes in memory."""
        path = self.path.absolute()
        if self.offset is None:
            return str(path)
        if self.length is None:
            return self.open()
        return f"subfile,,start,{self.offset},end,{self.offset + self.length},,:{path}"

    def __str__(self) -> str:
        if self.offset is None:
            return str(self.path)
        return f"{self.path} {'row' if self.length is None else 'at byte'} {self.offset}"


@lru_cache(maxsize=1)  # a video is opened more than once
def _parquet_cell(path: Path, modified_ns: int, row: int) -> bytes:
    """The image or video in a row. Raises DecodeError if there is no such row, or nothing in it."""
    layout = _ParquetLayout.of(path, modified_ns)
    group = next((group for group, end in enumerate(layout.group_ends) if row < end), None)
    if group is None:
        raise DecodeError(f"it has {layout.group_ends[-1] if layout.group_ends else 0} rows")
    with pq.ParquetFile(path, metadata=layout.metadata) as file:
        table = file.read_row_group(group, columns=[layout.column], use_threads=False)
    column = table.column(0).combine_chunks()
    values = column.field("bytes") if layout.column.endswith(".bytes") else column
    value = values[row - layout.group_ends[group] + table.num_rows].as_py()
    if value is None:
        raise DecodeError("it holds no bytes")
    return bytes(value)


@dataclass(frozen=True)
class _ParquetLayout:
    """What is read once a Parquet file: its footer, the column with the media, and where each row group ends."""

    metadata: pq.FileMetaData
    column: str
    group_ends: list[int]

    @staticmethod
    @lru_cache(maxsize=1024)
    def of(path: Path, modified_ns: int) -> _ParquetLayout:
        """Of the file at `path`, last written at `modified_ns`. Raises DecodeError where no column holds media."""
        metadata = pq.read_metadata(path)
        leaves = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
        column = next((leaf for leaf in leaves if leaf.split(".")[-1] in {"bytes", "image", "video"}), None)
        if column is None:
            raise DecodeError(f"none of its columns {', '.join(leaves)} is called image, video or bytes")
        sizes = (metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
        return _ParquetLayout(metadata, column, list(accumulate(sizes)))
