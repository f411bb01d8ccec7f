"""UCF101, as its authors distribute it → manifests of one of its three splits.

ROOT/ucfTrainTestlist/classInd.txt      1 ApplyEyeMakeup
                      trainlist01.txt   Archery/v_Archery_g08_c01.avi 3
                      testlist01.txt    Archery/v_Archery_g01_c01.avi
ROOT/UCF-101/Archery/v_Archery_g01_c01.avi

Videos may lie in any folders below ROOT, and in uncompressed tars. Folders of
their frames work, too: Archery/v_Archery_g01_c01/img_00001.jpg, …
"""

from __future__ import annotations

from pathlib import Path

from cover.datasets.annotation_files import AnnotationFiles, as_published, read_lines
from cover.datasets.manifest import Manifest
from cover.datasets.names import class_name, stem_of
from cover.datasets.splits import AnnotatedSample, write_splits


def index_ucf101(
    root: str | Path,
    *,
    out: str | Path,
    split_number: int = 1,
    name: str | None = None,
    annotations: str | Path | None = None,
) -> list[Manifest]:
    """Write OUT/NAME-train.arrow and OUT/NAME-test.arrow.

    Classes are those of classInd.txt, by their numbers. source_id is the group: the video that clips such as
    v_ApplyEyeMakeup_g08_c01 were cut from.

    Args:
        root: The folder of the dataset.
        out: The folder for the manifests.
        split_number: Which of the three published splits, 1 to 3.
        name: The name of the dataset; `ucf101-split1` by default.
        annotations: The folder of the lists, if not ROOT, ROOT/ucfTrainTestlist or ROOT/annotations.

    Returns:
        The manifests.

    Raises:
        ManifestError: A file is missing, or no video is found.
    """
    files = AnnotationFiles(root, annotations, "ucfTrainTestlist", "annotations")
    class_list = files.need("classInd.txt")
    with as_published(class_list):
        numbered = [line.split() for line in read_lines(class_list)]
        classes = {label: class_name(label) for _, label in sorted(numbered, key=lambda fields: int(fields[0]))}
    samples = {
        split: [_sample(line.split()[0]) for line in read_lines(files.need(f"{split}list{split_number:02d}.txt"))]
        for split in ("train", "test")
    }
    name = name or f"ucf101-split{split_number}"
    return write_splits(samples, classes, root=root, kind="video", out=out, name=name)


def _sample(file: str) -> AnnotatedSample:
    stem, folder = stem_of(file), file.split("/")[0]
    return AnnotatedSample(stem, folder, (stem,), (folder,), source_id=stem.rpartition("_c")[0])
