"""Moments in Time, as MIT distributes it → manifests.

ROOT/moments_categories.txt   adult+female+singing,0
ROOT/trainingSet.csv          blocking/getty-karate-video_4.mp4,blocking,3,0
ROOT/validationSet.csv
ROOT/training/blocking/getty-karate-video_4.mp4
ROOT/validation/…

Videos may lie in any folders below ROOT, and in uncompressed tars. Folders of
their frames work, too: training/blocking/NAME/img_00001.jpg, …
"""

from __future__ import annotations

import re
from pathlib import Path

from cover.datasets.annotation_files import AnnotationFiles, as_published, read_table
from cover.datasets.manifest import Manifest
from cover.datasets.names import class_name, stem_of
from cover.datasets.splits import AnnotatedSample, write_splits

_YOUTUBE = re.compile(r"yt-(?P<id>[\w-]{11})_\d+")


def index_moments(
    root: str | Path, *, out: str | Path, name: str = "mit", annotations: str | Path | None = None
) -> list[Manifest]:
    """Write OUT/NAME-SPLIT.arrow for the videos below `root` that the CSV files list.

    Classes are those of moments_categories.txt, by their numbers. source_id is the YouTube id of videos called yt-ID_…,
    and for others the name without its last number. Where in the source a video lies is not published.

    Args:
        root: The folder of the dataset.
        out: The folder for the manifests.
        name: The name of the dataset.
        annotations: The folder of the three files, if not ROOT or ROOT/annotations.

    Returns:
        The manifests.

    Raises:
        ManifestError: A file is missing or damaged, or no video is found.
    """
    files = AnnotationFiles(root, annotations, "annotations")
    class_list = files.need("moments_categories.txt")
    with as_published(class_list):
        categories = list(read_table(class_list, ("label", "number")))
        labels = [row["label"] for row in sorted(categories, key=lambda row: int(row["number"]))]
    lists = {"train": files.need("trainingSet.csv"), "val": files.need("validationSet.csv")}
    samples = {
        split: [_sample(split, row["file"], row["label"]) for row in read_table(file, ("file", "label"))]
        for split, file in lists.items()
    }
    classes = {label: class_name(label) for label in labels}
    return write_splits(samples, classes, root=root, kind="video", out=out, name=name)


def _sample(split: str, file: str, label: str) -> AnnotatedSample:
    stem = stem_of(file)
    youtube = _YOUTUBE.fullmatch(stem)
    source_id = youtube["id"] if youtube else stem.rpartition("_")[0] or stem
    return AnnotatedSample(file, label, (stem,), (split, *file.split("/")[:-1]), source_id)
