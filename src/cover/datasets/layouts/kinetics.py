"""Kinetics-400, -600, -700 and -700-2020, as DeepMind, CVDF and crawlers distribute them → manifests.

ROOT/annotations/train.csv   label,youtube_id,time_start,time_end,split
                 val.csv     or validate.csv, val.txt, kinetics_val.csv, …
ROOT/train/playing trumpet/0wR5jVB-WPk_000417_000427.mp4
ROOT/train/0wR5jVB-WPk_000417_000427.mp4
ROOT/val/playing_trumpet/0wR5jVB-WPk.mp4

Clips may lie in any folders below ROOT, and in uncompressed tars; folders of
their frames will do as well: abseiling/0wR5jVB-WPk/img_00001.jpg, …
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from cover.datasets.annotation_files import AnnotationFiles
from cover.datasets.annotation_list import read_rows, seconds
from cover.datasets.manifest import Manifest
from cover.datasets.names import SPLIT_NAMES, class_name, split_in
from cover.datasets.notices import examples, shown
from cover.datasets.splits import AnnotatedSample, write_splits
from cover.errors import ManifestError

logger = logging.getLogger(__name__)

# CVDF's Kinetics-400 has files here that take the place of broken ones in `train`.
_REPLACEMENTS = ("replacement", "replacement_for_corrupted_k400")
_COLUMNS = {"label", "youtube_id", "time_start", "time_end"}


def index_kinetics(
    root: str | Path, *, out: str | Path, name: str, annotations: str | Path | None = None
) -> list[Manifest]:
    """Write OUT/NAME-SPLIT.arrow for the clips below `root` that the CSV files list, train.txt and val.txt included.

    Commas, semicolons or tabs separate their columns. Files with other columns are left out and named in the log: lists
    without labels (of test sets), too. The split is that of the `split` column, or of the file's name. Classes are
    those of all lists, sorted. source_id is the YouTube id, and source_start_seconds and source_end_seconds are the
    clip's times in that video; the files hold just the clip. `annotations` is where the CSV files are, if not in ROOT
    or ROOT/annotations.

    Raises ManifestError when there is no such list, for a line that cannot be read, and when no clip is found.
    """
    files = AnnotationFiles(root, annotations, "annotations")
    samples: dict[str, list[AnnotatedSample]] = {}
    others = []
    for file in files.find_all("*.csv", "*.tsv", "train*.txt", "val*.txt"):
        rows = _rows(file)
        if rows is None:
            others.append(file.name)
        for split, sample in rows or ():
            samples.setdefault(split, []).append(sample)
    if not samples:
        raise ManifestError(
            f"{', '.join(map(str, files.folders))}: no CSV file has the columns label, youtube_id, time_start and "
            "time_end; give the folder of train.csv and val.csv with --annotations"
        )
    if others:
        message = "%s: %d files have no columns label, youtube_id, time_start and time_end and are not read, such as %s"
        logger.warning(message, name, len(others), examples(others))
    labels = sorted({sample.label for listed in samples.values() for sample in listed})
    return write_splits(samples, {label: label for label in labels}, root=root, kind="video", out=out, name=name)


def _rows(file: Path) -> Iterator[tuple[str, AnnotatedSample]] | None:
    """(split, sample) of each line with a label; None for a file that is another kind of list."""
    rows = read_rows(file)
    columns = [field.lower() for field in next(rows, ("", []))[1]]
    return _samples(file, columns, rows) if set(columns) >= _COLUMNS else None


def _samples(
    file: Path, columns: Sequence[str], rows: Iterator[tuple[str, list[str]]]
) -> Iterator[tuple[str, AnnotatedSample]]:
    for position, fields in rows:
        row = dict(zip(columns, fields, strict=False))
        try:
            label, youtube_id = class_name(row["label"]), row["youtube_id"]
            start, end = seconds(row["time_start"]), seconds(row["time_end"])
        except (KeyError, ValueError):
            raise ManifestError(
                f"{position}: a field is missing, or a time is not a number; fetch the file again"
            ) from None
        split_name = row.get("split", "").lower()
        split = SPLIT_NAMES.get(split_name) or split_in(split_name or file.stem)
        if split is None and split_name:
            raise ManifestError(
                f"{position}: split is '{shown(split_name)}'; it takes train, val, test or nothing: correct it"
            )
        split = split or "train"
        if label:
            clip = f"{youtube_id}_{int(start):06d}_{int(end):06d}"
            yield (
                split,
                AnnotatedSample(
                    clip, label, (clip, youtube_id), (split, label, *_REPLACEMENTS), youtube_id, start, end
                ),
            )
