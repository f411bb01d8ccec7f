"""HMDB51, as its authors distribute it → manifests of one of its three splits.

ROOT/testTrainMulti_7030_splits/brush_hair_test_split1.txt
        April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1    (1 train, 2 test, 0 no)
ROOT/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi

Videos may lie in any folders below ROOT, and in uncompressed tars. Folders of
their frames work, too: brush_hair/April_09_…_0/img_00001.jpg, …
"""

from __future__ import annotations

from pathlib import Path

from cover.datasets.annotation_files import AnnotationFiles, as_published, read_lines
from cover.datasets.manifest import Manifest
from cover.datasets.names import class_name, stem_of
from cover.datasets.splits import AnnotatedSample, write_splits

_SPLITS = {"0": None, "1": "train", "2": "test"}


def index_hmdb51(
    root: str | Path,
    *,
    out: str | Path,
    split_number: int = 1,
    name: str | None = None,
    annotations: str | Path | None = None,
) -> list[Manifest]:
    """Write OUT/NAME-train.arrow and OUT/NAME-test.arrow.

    Classes are those that have a list, sorted. source_id is the film that a clip was cut from: the part of its name
    before the class.

    Args:
        root: The folder of the dataset.
        out: The folder for the manifests.
        split_number: Which of the three published splits, 1 to 3.
        name: The name of the dataset; `hmdb51-split1` by default.
        annotations: The folder of the lists, if not ROOT, ROOT/testTrainMulti_7030_splits or ROOT/annotations.

    Returns:
        The manifests.

    Raises:
        ManifestError: A list is missing, or no video is found.
    """
    files = AnnotationFiles(root, annotations, "testTrainMulti_7030_splits", "annotations")
    ending = f"_test_split{split_number}.txt"
    files.need(f"*{ending}")
    lists = {file.name.removesuffix(ending): file for file in files.find_all(f"*{ending}")}
    samples: dict[str, list[AnnotatedSample]] = {"train": [], "test": []}
    for label, file in lists.items():
        with as_published(file):
            for video, mark in (line.rsplit(maxsplit=1) for line in read_lines(file)):
                if split := _SPLITS[mark]:
                    samples[split].append(_sample(video, label))
    classes = {label: class_name(label) for label in sorted(lists)}
    name = name or f"hmdb51-split{split_number}"
    return write_splits(samples, classes, root=root, kind="video", out=out, name=name)


def _sample(file: str, label: str) -> AnnotatedSample:
    stem = stem_of(file)
    return AnnotatedSample(f"{label}/{stem}", label, (stem,), (label,), source_id=stem.partition(f"_{label}_")[0])
