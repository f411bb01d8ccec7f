"""Charades, as the Allen Institute distributes it → manifests of videos with all their actions.

ROOT/Charades_v1_train.csv     id,subject,…,actions,length
                               46GP8,HR43,…,c092 11.90 21.20;c147 0.00 12.60,…
     Charades_v1_test.csv      the split val
     Charades_v1_classes.txt   c000 Holding some clothes
ROOT/Charades_v1_480/46GP8.mp4

Videos may lie in any folders below ROOT, and in uncompressed tars. Folders of
their frames work, too: Charades_v1_rgb/46GP8/46GP8-000001.jpg, …
"""

from __future__ import annotations

import logging
from pathlib import Path

from cover.datasets.annotation_files import AnnotationFiles, as_published, read_lines, read_records
from cover.datasets.manifest import Manifest
from cover.datasets.names import class_name
from cover.datasets.splits import AnnotatedSample, write_splits

logger = logging.getLogger(__name__)


def index_charades(
    root: str | Path, *, out: str | Path, name: str = "charades", annotations: str | Path | None = None
) -> list[Manifest]:
    """Write OUT/NAME-train.arrow and OUT/NAME-val.arrow for the videos below `root` that the CSV files list.

    A sample is a whole video with the set of its actions, as in the published classification task. `val` is the
    published test set, which is what is reported. Videos without an action are left out and counted in the log.

    Args:
        root: The folder of the dataset.
        out: The folder for the manifests.
        name: The name of the dataset.
        annotations: The folder of the three files, if not ROOT, ROOT/Charades or ROOT/annotations.

    Returns:
        The manifests.

    Raises:
        ManifestError: A file is missing or damaged, or no video is found.
    """
    files = AnnotationFiles(root, annotations, "Charades", "annotations")
    class_list = files.need("Charades_v1_classes.txt")
    with as_published(class_list):
        classes = {key: class_name(text) for key, text in (line.split(" ", 1) for line in read_lines(class_list))}
    samples: dict[str, list[AnnotatedSample]] = {}
    for split, published in (("train", "train"), ("val", "test")):
        file, num_without = files.need(f"Charades_v1_{published}.csv"), 0
        for row in read_records(file, ("id", "actions")):
            labels = list(dict.fromkeys(action.split(" ")[0] for action in row["actions"].split(";") if action))
            num_without += not labels
            if labels:
                sample = AnnotatedSample(row["id"], labels[0], (row["id"],), source_id=row["id"], labels=labels)
                samples.setdefault(split, []).append(sample)
        if num_without:
            logger.warning("%s %s: %d videos have no action and are left out", name, split, num_without)
    return write_splits(samples, classes, root=root, kind="video", out=out, name=name)
