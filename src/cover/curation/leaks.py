"""Find training samples that also occur in an evaluation split, of the same or another dataset of a mixture.

k400-train.arrow ──┐                    k400 train in moments val    same source, overlapping   312
moments-train.arrow├─ train × val, test  k400 train in moments val    similar frames            287   →  leaks.csv
moments-val.arrow ─┘
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.table import Column, Table

from cover.curation.dataset_pass import Pool
from cover.curation.frame_hashes import read_hashes
from cover.curation.leaks_by_frames import leaks_by_frames
from cover.curation.leaks_by_source import leaks_by_source, sources_of
from cover.datasets.exclusion import write_exclusions
from cover.datasets.manifest import Manifest
from cover.errors import CoverError

OVERLAPPING = "same source, overlapping"
TIME_UNKNOWN = "same source, time unknown"
SIMILAR = "similar frames"

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Leaks:
    """Samples of a training split that occur in an evaluation split, for one of the reasons above.

    Attributes:
        train: The training split.
        evaluation: The evaluation split.
        reason: Why the samples count as leaks.
        rows: int64 [L], rows of `train`.
        matches: int64 [L], the matching row of `evaluation` for each of them.
    """

    train: Manifest
    evaluation: Manifest
    reason: str
    rows: Rows
    matches: Rows

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield (sample id in `train`, "dataset-split/sample id" of its match)."""
        train, evaluation = (
            manifest.table["sample_id"].take(rows).to_pylist()
            for manifest, rows in ((self.train, self.rows), (self.evaluation, self.matches))
        )
        place = f"{self.evaluation.name}-{self.evaluation.split}"
        return ((sample_id, f"{place}/{match}") for sample_id, match in zip(train, evaluation, strict=True))


def find_leaks(manifests: Sequence[Manifest], pool: Pool | None) -> list[Leaks]:
    """Find samples of all training splits that occur in val and test splits.

    Args:
        manifests: Training, val and test splits of any datasets.
        pool: The processes that decode a few frames of every sample to compare their looks (see read_hashes). None
            compares sources alone.

    Returns:
        An entry for each pair of splits and reason that has leaks.

    Raises:
        CoverError: There is no training split, or no val or test split.
    """
    train = [manifest for manifest in manifests if manifest.split == "train"]
    evaluation = [manifest for manifest in manifests if manifest.split != "train"]
    if not train or not evaluation:
        missing = "val or test" if train else "training"
        raise CoverError(
            f"there is no {missing} manifest; leaks are from training splits to val and test splits: add one"
        )
    sources = {manifest.path: sources_of(manifest) for manifest in manifests}
    leaks = []
    for one, other in product(train, evaluation):
        found = leaks_by_source(sources[one.path], sources[other.path])
        for reason, chosen in ((OVERLAPPING, found.overlapping), (TIME_UNKNOWN, ~found.overlapping)):
            leaks.append(Leaks(one, other, reason, found.rows[chosen], found.matches[chosen]))
    if pool:
        hashes = {manifest.path: read_hashes(manifest, pool) for manifest in manifests}
        for one, other in product(train, evaluation):
            leaks.append(Leaks(one, other, SIMILAR, *leaks_by_frames(hashes[one.path], hashes[other.path])))
    return [some for some in leaks if len(some.rows)]


def write_leaks(path: Path, leaks: Sequence[Leaks]) -> None:
    """Write the training samples in `leaks` as an exclusion list for recipes."""
    lines = [
        (some.train.name, some.train.split, sample_id, some.reason, match)
        for some in leaks
        for sample_id, match in some.pairs()
    ]
    write_exclusions(path, lines)


def leaks_table(leaks: Sequence[Leaks]) -> Table:
    """Return a table of the number of leaks for each pair of splits and reason, with an example."""
    table = Table("samples of", "occur in", "reason", Column("samples", justify="right"), "such as")
    for some in leaks:
        sample_id, match = next(some.pairs())
        table.add_row(
            f"{some.train.name} {some.train.split}",
            f"{some.evaluation.name} {some.evaluation.split}",
            some.reason,
            f"{len(some.rows):,}",
            f"{sample_id} = {match.partition('/')[2]}",
        )
    return table


def num_leaking(leaks: Sequence[Leaks]) -> dict[str, int]:
    """Return the number of different samples that leak, for each training dataset that has some."""
    rows: dict[str, list[Rows]] = {}
    for some in leaks:
        rows.setdefault(some.train.name, []).append(some.rows)
    return {name: len(np.unique(np.concatenate(found))) for name, found in rows.items()}
