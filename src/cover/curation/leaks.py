"""Training samples that occur in an evaluation split, of their own or of another dataset of a mixture.

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

    rows: of `train`; matches: of `evaluation`, one for each: int64 [L].
    """

    train: Manifest
    evaluation: Manifest
    reason: str
    rows: Rows
    matches: Rows

    def pairs(self) -> Iterator[tuple[str, str]]:
        """(sample id of `train`, "dataset-split/sample id" of what it occurs in)."""
        train, evaluation = (
            manifest.table["sample_id"].take(rows).to_pylist()
            for manifest, rows in ((self.train, self.rows), (self.evaluation, self.matches))
        )
        place = f"{self.evaluation.name}-{self.evaluation.split}"
        return ((sample_id, f"{place}/{match}") for sample_id, match in zip(train, evaluation, strict=True))


def find_leaks(manifests: Sequence[Manifest], pool: Pool | None) -> list[Leaks]:
    """What of every training split occurs in every val and test split among `manifests`: by source, and by how frames
    look, for which `pool` decodes a few of every sample (see read_hashes); None leaves that out.

    Raises CoverError when there are not both kinds of splits.
    """
    train = [manifest for manifest in manifests if manifest.split == "train"]
    evaluation = [manifest for manifest in manifests if manifest.split != "train"]
    if not train or not evaluation:
        missing = "val or test" if train else "training"
        raise CoverError(f"no {missing} manifest is among them; leaks are from training splits into val and test ones")
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
    """The training samples in `leaks` as an exclusion list for recipes."""
    lines = [
        (some.train.name, some.train.split, sample_id, some.reason, match)
        for some in leaks
        for sample_id, match in some.pairs()
    ]
    write_exclusions(path, lines)


def leaks_table(leaks: Sequence[Leaks]) -> Table:
    """How many samples of which split occur in which, by reason, with an example."""
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
    """Samples that leak, of each training dataset that has some, however often they are found."""
    rows: dict[str, list[Rows]] = {}
    for some in leaks:
        rows.setdefault(some.train.name, []).append(some.rows)
    return {name: len(np.unique(np.concatenate(found))) for name, found in rows.items()}
