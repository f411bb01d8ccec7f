"""What `cover index` has found: clips and seconds of each class, and what is odd about classes and files."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.table import Table

from cover.core.progress import track
from cover.datasets.manifest import Manifest, ManifestRow
from cover.datasets.names import SPLIT_NAMES
from cover.datasets.notices import examples, shown
from cover.errors import DecodeError, ManifestError
from cover.media.decode import probe_row

MAX_OPENED = 2000
"""If a dataset has more videos, they are not opened, and the table has no seconds. `cover check` opens all."""
MAX_COMPARED = 20_000
"""If a dataset has more files, they are not compared. `cover check --leaks` compares all."""
MAX_ROWS = 10
"""Classes of the table: all of a dataset with no more, the smallest ones of others."""
FEW_SAMPLES = 10
"""A class with fewer training samples is named in a warning."""
_HEAD_BYTES = 2**20


class Lengths(NamedTuple):
    """How long the samples of a split are.

    Attributes:
        seconds: float64 [rows], NaN if unknown.
        unreadable: The paths of files that cannot be opened.
    """

    seconds: npt.NDArray[np.float64]
    unreadable: list[str]


def find_copies(manifests: Sequence[Manifest]) -> dict[Path, Path]:
    """Find files that are equal in size and in their first MiB.

    Args:
        manifests: The splits of a dataset.

    Returns:
        Copy → the first such file. It is empty if there are more than MAX_COMPARED samples. Samples in shards and
        folders of frames are not compared.
    """
    if sum(map(len, manifests)) > MAX_COMPARED:
        return {}
    files = {row.file for manifest in manifests for row in manifest if row.offset is None}
    by_size: dict[int, list[Path]] = defaultdict(list)
    for file in sorted(files):
        if file.is_file():
            by_size[file.stat().st_size].append(file)
    first_of: dict[tuple[int, bytes], Path] = {}
    copies = {}
    for size, same_size in by_size.items():
        for file in same_size if len(same_size) > 1 else ():
            with file.open("rb") as opened:
                content = size, hashlib.sha256(opened.read(_HEAD_BYTES)).digest()
            if (first := first_of.setdefault(content, file)) != file:
                copies[file] = first
    return copies


def lengths(manifest: Manifest) -> Lengths:
    """Return how long the samples of a split are.

    Videos whose length the manifest does not state are opened, unless there are more than MAX_OPENED.
    """
    rows = list(manifest) if manifest.kind == "video" and len(manifest) <= MAX_OPENED else []
    with ThreadPoolExecutor() as threads:
        found = list(track(threads.map(_seconds, rows), f"reading {manifest.name} {manifest.split}", len(rows)))
    unreadable = [row.path for row, length in zip(rows, found, strict=True) if length is None]
    seconds = [np.nan if length is None else length for length in found] or [np.nan] * len(manifest)
    return Lengths(np.asarray(seconds, np.float64), unreadable)


def _seconds(row: ManifestRow) -> float | None:
    """Return the length of a sample, NaN if it has none, such as a folder of frames, and None if it is unreadable."""
    start = row.start_seconds or 0.0
    if row.end_seconds is not None:
        return row.end_seconds - start
    try:
        length = row.duration_seconds or probe_row(row, "video").duration_seconds
    except DecodeError:
        return None
    return np.nan if length is None else length - start


def class_table(manifests: Sequence[Manifest], found: Mapping[str, Lengths]) -> Table:
    """Return the samples and seconds of each class, for the terminal: all classes, or the smallest of many.

    Args:
        manifests: The splits of a dataset.
        found: Split → how long its samples are.
    """
    first, classes = manifests[0], manifests[0].class_names
    table = Table(title=f"{first.name}: {first.kind}s of each class", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("class", no_wrap=True, max_width=36)
    columns: list[npt.NDArray[np.float64]] = []
    for manifest in sorted(manifests, key=lambda manifest: list(SPLIT_NAMES).index(manifest.split)):
        table.add_column(manifest.split, justify="right")
        columns.append(manifest.class_counts().astype(np.float64))
        known = np.nan_to_num(found[manifest.split].seconds)
        if known.any():
            table.add_column("seconds", justify="right")
            columns.append(np.bincount(manifest.labels, known, minlength=len(classes)).astype(np.float64))
    numbers = np.stack(columns, axis=1)
    order = range(len(classes)) if len(classes) <= MAX_ROWS else np.argsort(numbers[:, 0], kind="stable")[:MAX_ROWS]
    for label in order:
        table.add_row(classes[label], *(f"{number:,.0f}" for number in numbers[label]))
    if left_out := len(classes) - len(order):
        table.add_row(f"… {left_out:,} larger classes", style="dim")
    table.add_section()
    table.add_row("all", *(f"{number:,.0f}" for number in numbers.sum(axis=0)))
    return table


def warnings(manifests: Sequence[Manifest], found: Mapping[str, Lengths], copies: Mapping[Path, Path]) -> list[str]:
    """Return a line about each kind of oddity.

    Args:
        manifests: The splits of a dataset.
        found: Split → how long its samples are.
        copies: As `find_copies` returns them.
    """
    return [
        *_about_copies(manifests, copies),
        *_about_small_classes(manifests),
        *_about_unreadable(found),
        *_about_other_splits(manifests),
    ]


def _about_copies(manifests: Sequence[Manifest], copies: Mapping[Path, Path]) -> Iterator[str]:
    if not copies:
        return
    rows = [(row, manifest.split) for manifest in manifests for row in manifest]
    split_of = {row.file: split for row, split in rows}
    name_of = {row.file: f"{row.path} ({split})" for row, split in rows}
    pairs = [f"{name_of[copy]} = {name_of[first]}" for copy, first in copies.items()]
    across = sum(split_of[copy] != split_of[first] for copy, first in copies.items())
    leaks = f"; {across:,} of them are in two splits, which makes accuracies too high" if across else ""
    yield f"copies of other files: {len(pairs):,}, such as {examples(pairs)}{leaks}; delete one of each pair"


def _about_small_classes(manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in (manifest for manifest in manifests if manifest.split == "train"):
        counts = manifest.class_counts().tolist()
        small = sorted((count, name) for count, name in zip(counts, manifest.class_names, strict=True) if count)
        if few := [f"{shown(name)} ({count})" for count, name in small if count < FEW_SAMPLES]:
            yield (
                f"{len(few):,} of {len(counts):,} classes have fewer than {FEW_SAMPLES} training samples, such as "
                f"{examples(few)}; add files, or merge classes"
            )


def _about_unreadable(found: Mapping[str, Lengths]) -> Iterator[str]:
    if unreadable := [path for split in found.values() for path in split.unreadable]:
        yield f"unreadable videos: {len(unreadable):,}, such as {examples(unreadable)}; `cover check` says why"


def _about_other_splits(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Find samples that an older manifest of another split has, too."""
    first, splits = manifests[0], {manifest.split for manifest in manifests}
    indexed = Counter(sample_id for manifest in manifests for sample_id in manifest.table["sample_id"].to_pylist())
    for split in sorted(set(SPLIT_NAMES.values()) - splits):
        file = first.path.with_name(f"{first.name}-{split}.arrow")
        try:
            old = Manifest.open(file).table["sample_id"].to_pylist() if file.is_file() else []
        except ManifestError:
            continue
        if shared := sum(sample_id in indexed for sample_id in old):
            yield (
                f"{shared:,} samples are also in {file}, which an earlier call has written; delete it, or index with "
                "--val again"
            )
