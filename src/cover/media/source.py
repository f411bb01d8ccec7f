"""Where the bytes of a sample are, and facts about it.

    path                  offset  length
    clips/a.mp4                            the whole file
    shards/0001.tar         1536   21892   that many bytes from there: a member of a tar
    data/0001.parquet         17           the image or video in row 17, counted from 0
    frames/a                               a folder of frames

A folder of frames has no source; each of its images has one (frame_folder.py).
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow.parquet as pq

from cover.core.text_files import open_regular
from cover.datasets.manifest import ManifestRow
from cover.datasets.parquet_shard import media_column
from cover.errors import DecodeError


class FFmpegInput(NamedTuple):
    """What FFmpeg opens.

    Attributes:
        address: A URL, or a file in memory.
        options: FFmpeg's options for it.
        read_at: (offset, length) → bytes; does not move FFmpeg's own position.
    """

    address: str | BinaryIO
    options: Mapping[str, str]
    read_at: Callable[[int, int], bytes]


@dataclass(frozen=True)
class MediaSource:
    """A file, or the part of it that holds one sample. `str` names it for messages.

    Attributes:
        path: The file.
        offset: As in ManifestRow.
        length: As in ManifestRow.
    """

    path: Path
    offset: int | None = None
    length: int | None = None

    @classmethod
    def of(cls, sample: ManifestRow | MediaSource | str | Path) -> MediaSource:
        """Return the source of a row of a manifest, or of a whole file if given a path."""
        if isinstance(sample, MediaSource):
            return sample
        if isinstance(sample, ManifestRow):
            return cls(sample.file, sample.offset, sample.length)
        return cls(Path(sample))

    def open(self) -> BinaryIO:
        """Open the bytes of the sample for reading. Of a shard, only these bytes are read.

        Raises:
            OSError: The file cannot be opened.
            ValueError: It is not a regular file: a pipe could block forever, and a device could never end.
            DecodeError: A Parquet file does not have the row, or nothing in it.
        """
        if self.offset is None:
            return open_regular(self.path)
        if self.length is None:
            return io.BytesIO(_parquet_cell(self.path, self.offset))
        with open_regular(self.path) as shard:
            shard.seek(self.offset)
            return io.BytesIO(shard.read(self.length))

    @contextmanager
    def for_ffmpeg(self) -> Iterator[FFmpegInput]:
        """Yield what FFmpeg can open: a file descriptor, a window of one, or bytes in memory.

        FFmpeg never sees a name, which it could interpret as an address or a pattern. It must not open anything else by
        itself, whatever a playlist or a reference to another file asks for.

        Raises:
            OSError: The file cannot be opened.
            ValueError: It is not a regular file.
            DecodeError: A Parquet file does not have the row, or nothing in it.
        """
        options = {"protocol_whitelist": "fd,subfile"}
        if self.offset is not None and self.length is None:
            cell = _parquet_cell(self.path, self.offset)
            yield FFmpegInput(io.BytesIO(cell), options, lambda offset, length: cell[offset : offset + length])
            return
        with open_regular(self.path) as file:
            descriptor = file.fileno()
            start, end = self.offset or 0, os.fstat(descriptor).st_size
            if self.length is not None:
                end = min(end, start + self.length)

            def read_at(offset: int, length: int) -> bytes:
                return os.pread(descriptor, max(min(length, end - start - offset), 0), start + offset)

            window = "" if self.length is None else f"subfile,,start,{start},end,{end},,:"
            yield FFmpegInput(f"{window}fd:", options | {"fd": str(descriptor)}, read_at)

    def __str__(self) -> str:
        if self.offset is None:
            return str(self.path)
        return f"{self.path} {'row' if self.length is None else 'at byte'} {self.offset}"


def _parquet_cell(path: Path, row: int) -> bytes:
    """Return the image or video in a row. Raises DecodeError if there is no such row, or nothing in it."""
    with open_regular(path) as file:
        return _read_cell(path, os.fstat(file.fileno()).st_mtime_ns, row)


@lru_cache(maxsize=1)  # a video is opened several times
def _read_cell(path: Path, modified_ns: int, row: int) -> bytes:
    layout = _ParquetLayout.of(path, modified_ns)
    group = next((group for group, end in enumerate(layout.group_ends) if row < end), None)
    if group is None:
        raise DecodeError(f"it has only {layout.group_ends[-1] if layout.group_ends else 0} rows")
    with pq.ParquetFile(path, metadata=layout.metadata) as file:
        table = file.read_row_group(group, columns=[layout.column], use_threads=False)
    column = table.column(0).combine_chunks()
    values = column.field("bytes") if layout.column.endswith(".bytes") else column
    value = values[row - layout.group_ends[group] + table.num_rows].as_py()
    if value is None:
        raise DecodeError("the row is empty")
    return bytes(value)


@dataclass(frozen=True)
class _ParquetLayout:
    """What is read once from a Parquet file: its footer, the media column, and where each row group ends."""

    metadata: pq.FileMetaData
    column: str
    group_ends: list[int]

    @staticmethod
    @lru_cache(maxsize=1024)
    def of(path: Path, modified_ns: int) -> _ParquetLayout:
        """Read the layout of a file that was last modified at `modified_ns`.

        Raises DecodeError if no column holds media.
        """
        metadata = pq.read_metadata(path)
        try:
            column = media_column(metadata.schema)
        except ValueError as error:
            raise DecodeError(str(error)) from error
        sizes = (metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
        return _ParquetLayout(metadata, column, list(accumulate(sizes)))


@dataclass(frozen=True)
class MediaInfo:
    """Facts about a sample, in the terms of the manifest; None is unknown.

    Attributes:
        num_frames: The number of frames; 1 for an image.
        fps: The average frame rate.
        duration_seconds: The length.
        width_px: The width as shown, upright and with square pixels.
        height_px: The height as shown.
        rotation: By how many degrees counter-clockwise decoded frames are turned to be shown: 0, 90, 180 or 270, plus
            360 if they are mirrored left to right before.
    """

    num_frames: int | None
    fps: float | None
    duration_seconds: float | None
    width_px: int
    height_px: int
    rotation: int = 0
