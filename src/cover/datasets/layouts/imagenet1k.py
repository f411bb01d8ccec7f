"""ImageNet-1k (ILSVRC 2012), as image-net.org, Kaggle and dataset hubs distribute it → manifests.

ROOT/train/n01440764/n01440764_10026.JPEG
ROOT/val/n01440764/ILSVRC2012_val_00000293.JPEG
ROOT/val/ILSVRC2012_val_00000293.JPEG, with one of
    ROOT/LOC_val_solution.csv
    ROOT/imagenet_2012_validation_synset_labels.txt
    ROOT/ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt
                                    meta.mat
ROOT/LOC_synset_mapping.txt         n01440764 tench, Tinca tinca

ROOT/data/train-00000-of-00294.parquet, …    image {bytes, path}, label
          validation-00000-of-00014.parquet

Images may lie in any folders below ROOT, and in uncompressed tars, such as
ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar as they were downloaded.
"""

from __future__ import annotations

import csv
import logging
import re
import zlib
from pathlib import Path

from cover.datasets.annotation_files import AnnotationFiles, as_published, read_lines
from cover.datasets.layouts.imagenet21k import as_wnid, named_classes, read_words, wnid_of
from cover.datasets.location import Location
from cover.datasets.manifest import Manifest
from cover.datasets.names import split_of, stem_of
from cover.datasets.parquet import find_shards, index_parquet
from cover.datasets.scan import scan
from cover.datasets.splits import AnnotatedSample, write_located
from cover.errors import ManifestError

logger = logging.getLogger(__name__)

_DEVKIT = "ILSVRC2012_devkit_t12/data"
_VAL = "ILSVRC2012_val_"


def index_imagenet1k(
    root: str | Path, *, out: str | Path, name: str = "imagenet", annotations: str | Path | None = None
) -> list[Manifest]:
    """Write OUT/NAME-train.arrow and OUT/NAME-val.arrow for images or Parquet shards.

    Classes are sorted by WordNet id (wnid), as usual, or as the shards have them. Their names are the words in
    LOC_synset_mapping.txt or synset_words.txt, or else the wnids. A validation image that no file labels has the label
    of its folder.

    Args:
        root: The folder of the dataset.
        out: The folder for the manifests.
        name: The name of the dataset.
        annotations: The folder of the files above, if not ROOT, ROOT/annotations or the development kit in ROOT.

    Returns:
        The manifests.

    Raises:
        ManifestError: No image has a label.
    """
    if shards := find_shards(Path(root)):
        return index_parquet(shards, root=Path(root), kind="image", out=out, name=name)
    files = AnnotationFiles(root, annotations, _DEVKIT, "annotations")
    truth = _validation_truth(files)
    samples, locations = _labelled_images(Path(root), truth)
    if not any(samples.values()):
        raise ManifestError(f"no image in {root} has a label; expected ROOT/train/n01440764/n01440764_10026.JPEG")
    samples["val"] += [AnnotatedSample(stem, wnid, (stem,)) for stem, wnid in truth.items()]
    locations["val"] += [None] * len(truth)
    words_file = files.find("LOC_synset_mapping.txt", "synset_words.txt")
    words = read_words(words_file) if words_file else {}
    wnids = {sample.label for listed in samples.values() for sample in listed} | words.keys()
    return write_located(samples, locations, named_classes(wnids, words), root=root, kind="image", out=out, name=name)


def _labelled_images(
    root: Path, truth: dict[str, str]
) -> tuple[dict[str, list[AnnotatedSample]], dict[str, list[Location | None]]]:
    """Return the labelled images of each split and where they are. Those that are found are removed from `truth`."""
    samples: dict[str, list[AnnotatedSample]] = {"train": [], "val": []}
    locations: dict[str, list[Location | None]] = {"train": [], "val": []}
    num_unlabelled = 0
    for location in scan(root, "image"):
        stem = stem_of(location.name)
        split = "val" if stem.startswith(_VAL) else split_of(location.name.rpartition("/")[0])
        wnid = truth.pop(stem, None) or wnid_of(location)
        if wnid is None or split not in samples:
            num_unlabelled += 1
            continue
        samples[split].append(AnnotatedSample(location.name, wnid, (stem,)))
        locations[split].append(location)
    if num_unlabelled:
        message = (
            "%s: %s images have no label and are left out; LOC_val_solution.csv or the development kit has the labels "
            "of validation images"
        )
        logger.warning(message, root, f"{num_unlabelled:,}")
    return samples, locations


def _validation_truth(files: AnnotationFiles) -> dict[str, str]:
    """Return name of a validation image without suffix → wnid, from the first source that exists."""
    if solution := files.find("LOC_val_solution.csv"):
        with as_published(solution):
            rows = csv.DictReader(read_lines(solution))
            return {row["ImageId"]: as_wnid(row["PredictionString"].split()[0]) for row in rows}
    if labels := files.find("imagenet_2012_validation_synset_labels.txt"):
        with as_published(labels):
            return _numbered([as_wnid(line) for line in read_lines(labels)])
    if numbers := files.find("ILSVRC2012_validation_ground_truth.txt"):
        wnids = _read_devkit_wnids(files.need("meta.mat"))
        with as_published(numbers):
            return _numbered([wnids[int(number) - 1] for number in read_lines(numbers)])
    return {}


def _numbered(wnids: list[str]) -> dict[str, str]:
    return {f"{_VAL}{number:08d}": wnid for number, wnid in enumerate(wnids, start=1)}


def _read_devkit_wnids(file: Path) -> list[str]:
    """Return the wnids in meta.mat of ILSVRC's development kit, ordered by ILSVRC2012_ID, which starts at 1.

    The file is MATLAB 5: a compressed array of structs. Only the WNID fields contain text of this form. Raises
    ManifestError if there is none.
    """
    content = file.read_bytes()[128:]  # after the header
    texts = content
    while len(content) > 8:
        kind, size = (int.from_bytes(content[at : at + 4], "little") for at in (0, 4))
        if kind == 15:  # miCOMPRESSED
            texts += zlib.decompress(content[8 : 8 + size])
        content = content[8 + size :]
    wnids = [match.decode() for match in re.findall(rb"n\d{8}", texts.replace(b"\0", b""))]  # 8 or 16 bits a letter
    if not wnids:
        raise ManifestError(f"{file} contains no synsets; unpack it again from ILSVRC2012_devkit_t12.tar.gz")
    return wnids
