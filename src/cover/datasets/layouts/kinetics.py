"""Kinetics-400, -600, -700 and -700-2020, from DeepMind, CVDF and crawlers → manifests.

ROOT/annotations/train.csv   label,youtube_id,time_start,time_end,split
                 val.csv     or validate.csv, val.txt, kinetics_val.csv, …
ROOT/train/playing trumpet/0wR5jVB-WPk_000417_000427.mp4
ROOT/train/0wR5jVB-WPk_000417_000427.mp4
ROOT/val/playing_trumpet/0wR5jVB-WPk.mp4

Clips may lie in any folders below ROOT, and in uncompressed tars. Folders of
their frames work, too: abseiling/0wR5jVB-WPk/img_00001.jpg, …
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

# In CVDF's Kinetics-400, the files here replace broken ones in `train`.
_REPLACEMENTS = ("replacement", "replacement_for_corrupted_k400")
_COLUMNS = {"label", "youtube_id", "time_start", "time_end"}


def index_kinetics(
    root: str | Path, *, out: str | Path, name: str, annotations: str | Path | None = None
) -> list[Manifest]:
    """Write OUT/NAME-SPLIT.arrow for the clips below `root` that the CSV files list, with train.txt and val.txt.

    Commas, semicolons or tabs separate the columns. Files with other columns, such as test sets without labels, are
    skipped and named in the log. The split is that of the `split` column, or of the file's name. Classes are those of
    all lists, sorted. source_id is the YouTube id; source_start_seconds and source_end_seconds are the clip's times in
    that video. The files contain just the clip.

    Args:
        root: The folder of the dataset.
        out: The folder for the manifests.
        name: The name of the dataset.
        annotations: The folder of the CSV files, if not ROOT or ROOT/annotations.

    Returns:
        The manifests.

    Raises:
        ManifestError: There is no such list, a line cannot be read, or no clip is found.
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
        message = "%s: %d files have no columns label, youtube_id, time_start and time_end and are skipped, such as %s"
        logger.warning(message, name, len(others), examples(others))
    labels = sorted({sample.label for listed in samples.values() for sample in listed})
    return write_splits(samples, {label: label for label in labels}, root=root, kind="video", out=out, name=name)


def _rows(file: Path) -> Iterator[tuple[str, AnnotatedSample]] | None:
    """Return (split, sample) for each line with a label, or None if the file is another kind of list."""
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
                f"{position}: a field is missing, or a time is not a number; download the file again"
            ) from None
        split_name = row.get("split", "").lower()
        split = SPLIT_NAMES.get(split_name) or split_in(split_name or file.stem)
        if split is None and split_name:
            raise ManifestError(
                f"{position}: split is '{shown(split_name)}'; it must be train, val, test or empty: correct it"
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
