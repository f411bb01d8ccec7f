"""Find training samples that look like an evaluation sample, by the hashes of their frames.

Two samples are compared frame by frame if any two of their hashes agree in one of 9 bands of 16 bits. This holds for
nearly all copies and for very few other pairs.

The distance thresholds were set on the built-in game world. It is a hard case, because its objects are identical to the
pixel wherever they stand. `benchmarks/leaks.py --robustness` repeats the measurement; docs/log.md has the results.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cover.core.progress import track
from cover.curation.frame_hashes import HASH_BYTES, Hashes

MAX_DISTANCE = 28
"""The most bits, of HASH_SIDE², in which two frames of the same moment may differ. For clips, two frames must match."""
MAX_DISTANCE_ALONE = 20
"""The same if one of the samples has a single frame to compare, such as an image."""

MAX_SHARED = 10_000
"""If more frames than this agree in a band, they show something common, such as a title, and are ignored."""

_NUM_BUCKETS = 2**16
_ROWS_AT_ONCE = 2048
_PAIRS_AT_ONCE = 2**20

Rows = npt.NDArray[np.int64]


class FrameLeaks(NamedTuple):
    """Matching samples.

    Attributes:
        rows: int64 [L], training rows.
        matches: int64 [L], the most similar evaluation row for each.
    """

    rows: Rows
    matches: Rows


def leaks_by_frames(train: Hashes, evaluation: Hashes) -> FrameLeaks:
    """Find the training samples that look like an evaluation sample.

    Whole frames are compared with whole frames and with crops, in both directions.

    Args:
        train: uint8 [rows,T,NUM_VIEWS,HASH_BYTES], from `read_hashes`.
        evaluation: The same for the evaluation split; T may differ.
    """
    whole, views = _Index(evaluation[:, :, :1]), _Index(evaluation)
    rows, matches = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in track(range(0, len(train), _ROWS_AT_ONCE), "comparing frames", unit="steps"):
        some = np.asarray(train[start : start + _ROWS_AT_ONCE])
        pairs = np.unique(np.concatenate([whole.near(some), views.near(some[:, :, :1])]), axis=0)
        row, match = _best_of_each(some, evaluation, pairs)
        rows.append(start + row)
        matches.append(match)
    return FrameLeaks(np.concatenate(rows), np.concatenate(matches))


class _Index:
    """Hashes of evaluation samples, sorted by each band, to look up similar ones."""

    def __init__(self, hashes: Hashes) -> None:
        self._per_row = hashes.shape[1] * hashes.shape[2]
        flat = hashes.reshape(-1, HASH_BYTES)
        valid = np.flatnonzero(flat.any(1))
        self._words = _words(flat)
        self._order, self._ends = [], []
        for keys in flat[valid].view(np.uint16).T:
            self._order.append(valid[np.argsort(keys, kind="stable")].astype(np.int32))
            self._ends.append(np.cumsum(np.bincount(keys, minlength=_NUM_BUCKETS)))

    def near(self, hashes: Hashes) -> Rows:
        """Look up samples with hashes that share a band and are close.

        Returns:
            int64 [P,2], pairs of a row of `hashes` and a row of the index.
        """
        per_row = hashes.shape[1] * hashes.shape[2]
        flat = hashes.reshape(-1, HASH_BYTES)
        valid = np.flatnonzero(flat.any(1))
        words, pairs = _words(flat), [np.zeros((0, 2), np.int64)]
        for band, keys in enumerate(flat[valid].view(np.uint16).T):
            ends = self._ends[band][keys]
            sizes = ends - np.where(keys > 0, self._ends[band][keys - 1], 0)
            sizes[sizes > MAX_SHARED] = 0
            for part in _parts(sizes):
                here = self._order[band][_ranges(ends[part] - sizes[part], sizes[part])]
                there = np.repeat(valid[part], sizes[part])
                for num_words in (1, 3):  # most pairs already fail at the first word
                    bits = _num_bits(words[there, :num_words] ^ self._words[here, :num_words])
                    here, there = here[bits <= MAX_DISTANCE], there[bits <= MAX_DISTANCE]
                pairs.append(np.stack([there // per_row, here // self._per_row], 1))
        return np.concatenate(pairs)


def _best_of_each(train: Hashes, evaluation: Hashes, pairs: Rows) -> tuple[Rows, Rows]:
    """Return the closest match of each training row among the pairs (training row, evaluation row) that match."""
    rows, matches, distances = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for part in np.array_split(pairs, len(pairs) // 2**14 + 1):
        is_match, distance = matching(train[part[:, 0]], evaluation[part[:, 1]])
        rows.append(part[is_match, 0])
        matches.append(part[is_match, 1])
        distances.append(distance[is_match])
    order = np.lexsort((np.concatenate(distances), np.concatenate(rows)))
    row, match = np.concatenate(rows)[order], np.concatenate(matches)[order]
    first = np.flatnonzero(np.diff(row, prepend=-1))
    return row[first], match[first]


def matching(left: Hashes, right: Hashes) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Compare pairs of samples.

    Args:
        left: uint8 [P,T,NUM_VIEWS,HASH_BYTES].
        right: uint8 [P,T,NUM_VIEWS,HASH_BYTES]; T may differ.

    Returns:
        bool [P], whether the samples match; float64 [P], the mean distance of the left frames to their closest right
            frame.
    """
    left_words, right_words = _words(left), _words(right)
    distances = np.full((len(left), left.shape[1], right.shape[1]), 255, np.uint8)
    for view in range(left.shape[2]):
        for here, there in ((view, 0), (0, view)):
            bits = _num_bits(left_words[:, :, None, here] ^ right_words[:, None, :, there])
            distances = np.minimum(distances, bits)
    left_shows, right_shows = (np.asarray(hashes[:, :, 0].any(-1)) for hashes in (left, right))
    distances[~(left_shows[:, :, None] & right_shows[:, None, :])] = 255
    alone = np.minimum(left_shows.sum(1), right_shows.sum(1)) == 1
    limits = np.where(alone, MAX_DISTANCE_ALONE, MAX_DISTANCE)
    near = np.asarray(distances <= limits[:, None, None])
    num_near = np.maximum(near.any(2).sum(1), near.any(1).sum(1))
    return num_near >= np.where(alone, 1, 2), distances.min(2).mean(1)


def _words(hashes: Hashes) -> npt.NDArray[np.uint64]:
    """Return the hashes [...,HASH_BYTES] as 64-bit numbers [...,3], which are faster to compare."""
    padded = np.zeros((*hashes.shape[:-1], 24), np.uint8)
    padded[..., :HASH_BYTES] = hashes
    return padded.view(np.uint64)


def _num_bits(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    return np.asarray(np.bitwise_count(words).sum(-1, dtype=np.uint8))


def _parts(sizes: Rows) -> Iterator[slice]:
    """Yield slices whose sizes sum to about _PAIRS_AT_ONCE each."""
    piece = np.cumsum(sizes) // _PAIRS_AT_ONCE
    bounds = np.flatnonzero(np.diff(piece, prepend=-1, append=-1))
    yield from (slice(int(begin), int(end)) for begin, end in pairwise(bounds))


def _ranges(starts: Rows, sizes: Rows) -> Rows:
    """Return the concatenated ranges starts[0], starts[0] + 1, … (sizes[0] numbers), starts[1], …."""
    offsets = np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.arange(len(offsets)) - offsets + np.repeat(starts, sizes)
