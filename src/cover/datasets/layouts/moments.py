"""Moments in Time and Multi-Moments in Time, as MIT distributes them → manifests.

ROOT/moments_categories.txt  adult+female+singing,0
ROOT/trainingSet.csv         blocking/getty-karate-video_4.mp4,blocking,3,0
ROOT/validationSet.csv       Multi-Moments: blocking/yt-zxQfALnTdfc_56.mp4,6,0
ROOT/training/blocking/getty-karate-video_4.mp4
ROOT/validation/…

Videos may lie in any folders below ROOT, and in uncompressed tars. Folders of
their frames work, too: training/blocking/NAME/img_00001.jpg, …
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cover.datasets.annotation_files import AnnotationFiles, as_published, read_lines, read_table
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
    labels = _categories(files).values()
    lists = {"train": files.need("trainingSet.csv"), "val": files.need("validationSet.csv")}
    samples = {
        split: [_sample(split, row["file"], row["label"]) for row in read_table(file, ("file", "label"))]
        for split, file in lists.items()
    }
    classes = {label: class_name(label) for label in labels}
    return write_splits(samples, classes, root=root, kind="video", out=out, name=name)


def index_multi_moments(
    root: str | Path, *, out: str | Path, name: str = "mmit", annotations: str | Path | None = None
) -> list[Manifest]:
    """Write OUT/NAME-SPLIT.arrow for the videos of Multi-Moments in Time below `root`, with all their classes.

    Lines of the lists are the file and the numbers of its classes. Everything else is as in `index_moments`.

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
    categories = _categories(files)
    samples: dict[str, list[AnnotatedSample]] = {}
    for split, stem in (("train", "trainingSet"), ("val", "validationSet")):
        file = files.need(f"{stem}.csv", f"{stem}.txt")
        with as_published(file):
            for line in read_lines(file):
                path, *numbers = line.split(",")
                labels = list(dict.fromkeys(categories[int(number)] for number in numbers))
                samples.setdefault(split, []).append(_sample(split, path, labels[0], labels))
    classes = {label: class_name(label) for label in categories.values()}
    return write_splits(samples, classes, root=root, kind="video", out=out, name=name)


def _categories(files: AnnotationFiles) -> dict[int, str]:
    """Read moments_categories.txt: number → class, sorted by numbers."""
    class_list = files.need("moments_categories.txt")
    with as_published(class_list):
        return dict(sorted((int(row["number"]), row["label"]) for row in read_table(class_list, ("label", "number"))))


def _sample(split: str, file: str, label: str, labels: Sequence[str] = ()) -> AnnotatedSample:
    stem = stem_of(file)
    youtube = _YOUTUBE.fullmatch(stem)
    source_id = youtube["id"] if youtube else stem.rpartition("_")[0] or stem
    return AnnotatedSample(file, label, (stem,), (split, *file.split("/")[:-1]), source_id, labels=labels)
