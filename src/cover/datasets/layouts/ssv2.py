"""Something-Something v2, as 20BN and Qualcomm distribute it → manifests.

ROOT/labels/labels.json       {"Holding something": "21"}
            train.json        [{"id": "1", "template": "Holding [something]"}]
            validation.json   or something-something-v2-validation.json
            test-answers.csv  2;Holding something
ROOT/20bn-something-something-v2/1.webm

Videos may lie in any folders below ROOT, and in uncompressed tars. Folders of
their frames work, too: frames/1/img_00001.jpg, …
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cover.core.text_files import read_json
from cover.datasets.annotation_files import AnnotationFiles, as_published, read_lines
from cover.datasets.manifest import Manifest
from cover.datasets.names import class_name
from cover.datasets.splits import AnnotatedSample, write_splits
from cover.errors import ManifestError


def index_ssv2(
    root: str | Path, *, out: str | Path, name: str = "ssv2", annotations: str | Path | None = None
) -> list[Manifest]:
    """Write OUT/NAME-SPLIT.arrow for the videos below `root` that the JSON files list.

    Classes are those of labels.json, in its order: templates without brackets. The test set is included if
    test-answers.csv exists.

    Args:
        root: The folder of the dataset.
        out: The folder for the manifests.
        name: The name of the dataset.
        annotations: The folder of the JSON files, if not ROOT, ROOT/labels or ROOT/annotations.

    Returns:
        The manifests.

    Raises:
        ManifestError: A file is missing or damaged, or no video is found.
    """
    files = AnnotationFiles(root, annotations, "labels", "annotations")
    labels = files.need("labels.json", "*-labels.json")
    with as_published(labels):
        numbers = _json(labels)
        classes = {_key(text): class_name(text) for text in sorted(numbers, key=lambda text: int(numbers[text]))}
    samples: dict[str, list[AnnotatedSample]] = {}
    for split, stem in (("train", "train"), ("val", "validation")):
        if file := files.find(f"{stem}.json", f"*-{stem}.json"):
            with as_published(file):
                samples[split] = [_sample(str(entry["id"]), entry["template"]) for entry in _json(file)]
    if file := files.find("*test-answers.csv"):
        with as_published(file):
            answers = (line.split(";", 1) for line in read_lines(file))
            samples["test"] = [_sample(video_id, label) for video_id, label in answers]
    if not samples:
        files.need("train.json", "*-train.json")
    return write_splits(samples, classes, root=root, kind="video", out=out, name=name)


def _sample(video_id: str, template: str) -> AnnotatedSample:
    return AnnotatedSample(video_id, _key(template), (video_id,))


def _key(template: str) -> str:
    """Return the key of a class.

    Templates have brackets that labels.json does not have, and sometimes differ in case.
    """
    return template.replace("[", "").replace("]", "").strip().lower()


def _json(file: Path) -> Any:
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        raise ManifestError(f"{file} is not JSON ({error}); download it again") from error
