"""Find training samples that show the same part of the same recording as an evaluation sample.

    train       |------ a: 10 to 20 s ------|
    evaluation                        |- 18 to 21 s -|        a overlaps, and is a leak

The source of a sample is the manifest's source_id. Without one, it is the YouTube id in the name of the file or frame
folder (Kinetics calls them `id_000012_000022.mp4`, with the times, or `id.mp4`). Without either, it is the file itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cover.datasets.manifest import Manifest

# 11 characters of base64 encode the 64 bits of an id and 2 spare bits, so the last character has 16 values.
_YOUTUBE_ID = r"(?:^|/)(?P<id>[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048])"
_ID_AND_TIMES = _YOUTUBE_ID + r"_(?P<start>\d{6})_(?P<end>\d{6})(?:\.\w+)?$"
_ID_ALONE = _YOUTUBE_ID + r"(?:\.\w+)?$"

MIN_ID_ALONE_SHARE = 0.9
"""The share of a manifest's files that must be called `id.mp4` before any of them counts as one. One in four other
names of 11 characters, such as video_00004.mp4, looks like an id.
"""

Rows = npt.NDArray[np.int64]
Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sources:
    """The source of each sample of a manifest.

    Attributes:
        ids: string [rows].
        start_seconds: float64 [rows], within the source; NaN if unknown.
        end_seconds: float64 [rows], within the source; NaN if unknown.
    """

    ids: pa.ChunkedArray
    start_seconds: Seconds
    end_seconds: Seconds

    @property
    def timed(self) -> npt.NDArray[np.bool_]:
        """bool [rows], which samples have both times."""
        return ~np.isnan(self.start_seconds + self.end_seconds)


class SourceLeaks(NamedTuple):
    """Samples with a common source.

    Attributes:
        rows: int64 [L], training rows.
        matches: int64 [L], an evaluation row with the same source for each.
        overlapping: bool [L], whether their times overlap. If not, one of the times is unknown.
    """

    rows: Rows
    matches: Rows
    overlapping: npt.NDArray[np.bool_]


def sources_of(manifest: Manifest) -> Sources:
    """Return the sources of a manifest's samples."""
    table = manifest.table
    named = pc.extract_regex(table["path"], _ID_AND_TIMES)
    named_ids = pc.struct_field(named, 0)
    ids = pc.coalesce(table["source_id"], named_ids)
    of_name = pc.equal(ids, named_ids)  # only then do the times in the name belong to this source
    starts, ends = (
        pc.coalesce(table[column], pc.if_else(of_name, pc.cast(pc.struct_field(named, field), pa.float64()), None))
        for field, column in ((1, "source_start_seconds"), (2, "source_end_seconds"))
    )
    alone = pc.struct_field(pc.extract_regex(table["path"], _ID_ALONE), 0)
    if len(alone) - alone.null_count >= MIN_ID_ALONE_SHARE * len(alone):
        ids = pc.coalesce(ids, alone)
    # A sample may be a segment of a file that was itself cut from the source.
    first, last = _seconds(table["start_seconds"], 0.0), _seconds(table["end_seconds"], np.inf)
    start, end = _seconds(starts), _seconds(ends)
    start, end = start + first, np.minimum(start + last, end)
    own = pc.is_null(ids).to_numpy()
    return Sources(pc.coalesce(ids, _files(manifest, table)), np.where(own, first, start), np.where(own, last, end))


def leaks_by_source(train: Sources, evaluation: Sources) -> SourceLeaks:
    """Find the training samples that overlap an evaluation sample from the same source, or may overlap it.

    An unknown time counts as the whole source. Each training sample is listed once, with an overlapping evaluation
    sample if there is one.

    Args:
        train: The sources of the training split.
        evaluation: The sources of the evaluation split.
    """
    sources = pc.unique(evaluation.ids)
    source_t, source_e = _index(train.ids, sources), _index(evaluation.ids, sources)
    rows = np.flatnonzero(source_t >= 0)
    source_t, timed_t = source_t[rows], train.timed[rows]
    timed_e = np.flatnonzero(evaluation.timed)
    matches = np.full(len(rows), -1)
    matches[timed_t] = _overlapping(
        _stretches(train, source_t[timed_t], rows[timed_t]), _stretches(evaluation, source_e[timed_e], timed_e), timed_e
    )
    overlapping = matches >= 0
    any_of, untimed_of = (
        _first_of(source_e, candidates, len(sources))
        for candidates in (np.arange(len(source_e)), np.flatnonzero(~evaluation.timed))
    )
    unknown = np.where(timed_t, untimed_of[source_t], any_of[source_t])
    matches = np.where(overlapping, matches, unknown)
    found = matches >= 0
    return SourceLeaks(rows[found], matches[found], overlapping[found])


class _Stretches(NamedTuple):
    """Parts of sources with known times."""

    source: Rows
    start_seconds: Seconds
    end_seconds: Seconds


def _stretches(sources: Sources, source: Rows, rows: Rows) -> _Stretches:
    return _Stretches(source, sources.start_seconds[rows], sources.end_seconds[rows])


def _overlapping(train: _Stretches, evaluation: _Stretches, rows: Rows) -> Rows:
    """Return the row of an evaluation stretch that overlaps each training stretch on the same source, or -1.

    Among the stretches that begin before a training stretch ends, the one that ends last overlaps it if any does.
    Sorting is therefore enough, and no pairs are listed; a source with many clips would have very many.
    """
    if not len(rows):
        return np.full(len(train.source), -1)
    times = np.unique(np.concatenate([*train[1:], *evaluation[1:]]))

    def key(source: Rows, time: Seconds) -> Rows:
        """(source, time) as a single number with the same order."""
        return np.asarray(source * len(times) + np.searchsorted(times, time))

    starts = key(evaluation.source, evaluation.start_seconds)
    order = np.argsort(starts)
    ends = key(evaluation.source, evaluation.end_seconds)[order]
    latest = np.maximum.accumulate(ends)  # sources ascend, so none reaches into the next
    holder = np.maximum.accumulate(np.where(ends == latest, np.arange(len(ends)), 0))
    last_begun = np.searchsorted(starts[order], key(train.source, train.end_seconds)) - 1
    overlaps = (last_begun >= 0) & (latest[last_begun] > key(train.source, train.start_seconds))
    return np.where(overlaps, rows[order[holder[last_begun]]], -1)


def _first_of(source: Rows, candidates: Rows, num_sources: int) -> Rows:
    """Return the first of the candidate rows for each source, or -1."""
    first = np.full(num_sources, -1)
    first[source[candidates][::-1]] = candidates[::-1]
    return first


def _index(values: pa.ChunkedArray, of: pa.Array) -> Rows:
    return np.asarray(pc.fill_null(pc.index_in(values, value_set=of), -1), np.int64)


def _seconds(column: pa.ChunkedArray, unknown: float = np.nan) -> Seconds:
    return np.asarray(pc.fill_null(column, unknown))


def _files(manifest: Manifest, table: pa.Table) -> pa.ChunkedArray:
    """Return the absolute path of each sample's file, with the offset for a sample in a shard."""
    below = pc.binary_join_element_wise(str(manifest.root), table["path"], "/")
    files = pc.if_else(pc.starts_with(table["path"], "/"), table["path"], below)
    return pc.coalesce(pc.binary_join_element_wise(files, pc.cast(table["offset"], pa.string()), ":"), files)
