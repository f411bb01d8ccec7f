"""EPIC-Kitchens-100, as Bristol distributes it → two datasets on the same files: verbs and nouns.

ROOT/EPIC_100_train.csv          narration_id,…,video_id,…,start_timestamp,…
     EPIC_100_validation.csv     P01_01_0,…,P01_01,…,00:00:00.14,…
     EPIC_100_verb_classes.csv   id,key,instances,category
     EPIC_100_noun_classes.csv   or EPIC_100_noun_classes_v2.csv
ROOT/P01/videos/P01_01.MP4

Videos are whole recordings, and samples are segments of them. They may lie in
any folders below ROOT.
"""

from __future__ import annotations

from pathlib import Path

from cover.datasets.annotation_files import AnnotationFiles, as_published, read_records
from cover.datasets.manifest import Manifest
from cover.datasets.splits import AnnotatedSample, write_splits
from cover.errors import ManifestError

_COLUMNS = ("narration_id", "video_id", "start_timestamp", "stop_timestamp")


def index_epic_kitchens(
    root: str | Path, *, out: str | Path, name: str = "epic", annotations: str | Path | None = None
) -> list[Manifest]:
    """Write OUT/NAME_verbs-SPLIT.arrow and OUT/NAME_nouns-SPLIT.arrow for the segments of the videos below `root`.

    Both have the same samples. A recipe with `clips_of` trains a head for each on the same clips. Classes are those of
    the published lists, by their numbers. source_id is the recording.

    Args:
        root: The folder of the dataset.
        out: The folder for the manifests.
        name: The name of the dataset.
        annotations: The folder of the CSV files, if not ROOT or ROOT/annotations.

    Returns:
        The manifests.

    Raises:
        ManifestError: A file is missing or damaged, or no video is found.
    """
    files = AnnotationFiles(root, annotations, "annotations")
    lists = {"train": files.need("EPIC_100_train.csv"), "val": files.need("EPIC_100_validation.csv")}
    manifests: list[Manifest] = []
    for part in ("verb", "noun"):
        class_list = files.need(f"EPIC_100_{part}_classes.csv", f"EPIC_100_{part}_classes_v2.csv")
        with as_published(class_list):
            rows = sorted(read_records(class_list, ("id", "key")), key=lambda row: int(row["id"]))
        samples = {split: _samples(file, f"{part}_class") for split, file in lists.items()}
        classes = {row["id"]: row["key"] for row in rows}
        manifests += write_splits(samples, classes, root=root, kind="video", out=out, name=f"{name}_{part}s")
    return manifests


def _samples(file: Path, label: str) -> list[AnnotatedSample]:
    samples = []
    for row in read_records(file, (*_COLUMNS, label)):
        try:
            start, end = _seconds(row["start_timestamp"]), _seconds(row["stop_timestamp"])
        except ValueError:
            raise ManifestError(
                f"{file}: the times of {row['narration_id']} are not of the form 00:00:00.14; download the file again"
            ) from None
        video = row["video_id"]
        samples.append(
            AnnotatedSample(
                row["narration_id"], row[label], (video,), source_id=video, start_seconds=start, end_seconds=end
            )
        )
    return samples


def _seconds(timestamp: str) -> float:
    hours, minutes, seconds = timestamp.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
