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

import csv
from collections.abc import Iterator
from pathlib import Path

from cover.catalog.annotation_files import AnnotationFiles, as_published, read_lines
from cover.catalog.class_names import class_name
from cover.catalog.manifest import Manifest
from cover.catalog.splits import Sample, write_splits
from cover.catalog.suffixes import SPLIT_NAMES, split_in
from cover.errors import ManifestError

# CVDF's Kinetics-400 has files here that take the place of broken ones in `train`.
_REPLACEMENTS = ("replacement", "replacement_for_corrupted_k400")
_COLUMNS = {"label", "youtube_id", "time_start", "time_end"}


def index_kinetics(
    root: str | Path, *, out: str | Path, name: str, annotations: str | Path | None = None
) -> list[Manifest]:
    """Write OUT/NAME-SPLIT.arrow for the clips below `root` that the CSV files list, train.txt and val.txt included.

    The split is that of the `split` column, or of the file's name; lists without labels (of test sets) are left out.
    Classes are those of all lists, sorted. source_id is the YouTube id, and source_start_seconds and
    source_end_seconds are the clip's times in that video; the files hold just the clip. `annotations` is where the
    CSV files are, if not in ROOT or ROOT/annotations.

    Raises ManifestError when there is no such list, for a line that cannot be read, and when no clip is found.
    """
    files = AnnotationFiles(root, annotations, "annotations")
    samples: dict[str, list[Sample]] = {}
    for file in files.find_all("*.csv", "train*.txt", "val*.txt"):
        for split, sample in _samples(file):
            samples.setdefault(split, []).append(sample)
    if not samples:
        raise ManifestError(
            f"{', '.join(map(str, files.folders))}: no CSV file has the columns label, youtube_id, time_start and "
            "time_end; give the folder of train.csv and val.csv with --annotations"
        )
    labels = sorted({sample.label for listed in samples.values() for sample in listed})
    return write_splits(samples, {label: label for label in labels}, root=root, kind="video", out=out, name=name)


def _samples(file: Path) -> Iterator[tuple[str, Sample]]:
    """(split, sample) of each line; nothing of a file that is another kind of list."""
    with as_published(file):
        yield from _rows(file)


def _rows(file: Path) -> Iterator[tuple[str, Sample]]:
    reader = csv.DictReader(read_lines(file))
    if not set(reader.fieldnames or ()) >= _COLUMNS:
        return
    for row in reader:
        split_name = (row.get("split") or "").lower()
        split = SPLIT_NAMES.get(split_name) or split_in(split_name) or split_in(file.stem) or "train"
        label, youtube_id = class_name(row["label"] or ""), row["youtube_id"]
        try:
            start, end = float(row["time_start"]), float(row["time_end"])
        except (TypeError, ValueError):
            raise ManifestError(f"{file}:{reader.line_num}: a time is not a number; fetch the file again") from None
        if label:
            clip = f"{youtube_id}_{int(start):06d}_{int(end):06d}"
            yield split, Sample(clip, label, (clip, youtube_id), (split, label, *_REPLACEMENTS), youtube_id, start, end)
