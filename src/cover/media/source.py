"""Where the bytes of a sample are, and facts about it.

    path                  offset  length
    clips/a.mp4                            the whole file
    shards/0001.tar         1536   21892   that many bytes from there: a member of a tar
    data/0001.parquet         17           the image or video in row 17, counted from 0
    frames/a                               a folder of frames

A folder of frames has no source; each of its images has one (frame_folder.py).
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow.parquet as pq

from cover.core.text_files import open_regular
from cover.datasets.manifest import ManifestRow
from cover.datasets.parquet_shard import media_column
from cover.errors import DecodeError


@dataclass(frozen=True)
class OpenMedia:
    """The bytes of one sample, opened once for all that read it: FFmpeg, Pillow and what looks at the first bytes.

    Attributes:
        source: Where the bytes are.
        num_bytes: Their number.
        read_at: (offset, length) → bytes, fewer at the end. It does not move any reader.
    """

    source: MediaSource
    num_bytes: int
    read_at: Callable[[int, int], bytes]

    def reader(self) -> BinaryIO:
        """Return a file with a position of its own, at the beginning. You can use any number of them at a time."""
        return cast("BinaryIO", _Reader(self))

    def buffered_reader(self, buffer_bytes: int = 2**16) -> BinaryIO:
        """Return such a file with a buffer, for code that reads a few bytes at a time. Most images fit in it."""
        return io.BufferedReader(_Reader(self), buffer_bytes)


class _Reader(io.RawIOBase):
    def __init__(self, media: OpenMedia) -> None:
        self._media = media
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._media.read_at(self._position, len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def readall(self) -> bytes:
        return self.read(max(self._media.num_bytes - self._position, 0))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._media.num_bytes}[whence]
        if origin + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = origin + offset
        return self._position


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

    @contextmanager
    def open(self) -> Iterator[OpenMedia]:
        """Open the file. Of a shard, only the bytes of the sample are read, or the row group that has its row.

        Use `opened` in failures.py, which names the file in errors.

        Raises:
            OSError: The file cannot be opened.
            ValueError: It is not a regular file: a pipe could block forever, and a device could never end.
            DecodeError: A Parquet file does not have the row, or nothing in it.
        """
        if self.offset is not None and self.length is None:
            cell = _parquet_cell(self.path, self.path.stat().st_mtime_ns, self.offset)
            yield OpenMedia(self, len(cell), lambda offset, length: cell[offset : offset + length])
            return
        with open_regular(self.path) as file:
            start = self.offset or 0
            present = max(os.fstat(file.fileno()).st_size - start, 0)
            num_bytes = present if self.length is None else min(self.length, present)

            def read_at(offset: int, length: int) -> bytes:
                length = min(length, num_bytes - offset)
                # fileno() fails once the file is closed; its number may then belong to another file.
                return os.pread(file.fileno(), length, start + offset) if length > 0 else b""

            yield OpenMedia(self, num_bytes, read_at)

    def __str__(self) -> str:
        if self.offset is None:
            return str(self.path)
        return f"{self.path} {'row' if self.length is None else 'at byte'} {self.offset}"


AnySource = OpenMedia | MediaSource | str | Path
"""What the readers of one sample take."""


@lru_cache(maxsize=1)  # a check decodes a sample and then reads facts about it
def _parquet_cell(path: Path, modified_ns: int, row: int) -> bytes:
    """Return the image or video in a row. Raises DecodeError if there is no such row, or nothing in it."""
    layout = _ParquetLayout.of(path, modified_ns)
    group = next((group for group, end in enumerate(layout.group_ends) if row < end), None)
    if group is None:
        raise DecodeError(f"it has only {layout.group_ends[-1] if layout.group_ends else 0} rows")
    with open_regular(path) as file:
        table = pq.ParquetFile(file, metadata=layout.metadata).read_row_group(
            group, columns=[layout.column], use_threads=False
        )
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
        with open_regular(path) as file:
            metadata = pq.read_metadata(file)
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
