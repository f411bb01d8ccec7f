"""ImageNet-21k (all of ImageNet), as image-net.org distributes it → a manifest.

ROOT/n00004475/n00004475_6590.JPEG    class folders, or
ROOT/n00004475.tar                    a tar a class, or
ROOT/fall11_whole.tar                 the tar of all those tars
ROOT/words.txt                        n00004475    organism, being
"""

from __future__ import annotations

import logging
from pathlib import Path

from cover.datasets.annotation_files import AnnotationFiles
from cover.datasets.location import Placed, write_placed
from cover.datasets.manifest import Manifest
from cover.datasets.scan import scan
from cover.datasets.synsets import named_classes, read_words, wnid_of
from cover.errors import ManifestError

logger = logging.getLogger(__name__)


def index_imagenet21k(
    root: str | Path, *, out: str | Path, name: str = "imagenet21k", annotations: str | Path | None = None
) -> list[Manifest]:
    """Write OUT/NAME-train.arrow for the images below `root`; the dataset has no other split.

    Classes are the wnids that there are, sorted; they are called by the words of words.txt, in ROOT or `annotations`,
    else by their wnids.

    Raises ManifestError when no image's or folder's name has a wnid.
    """
    words_file = AnnotationFiles(root, annotations).find("words.txt")
    words = read_words(words_file) if words_file else {}
    labelled = [(wnid_of(place), place) for place in scan(Path(root), "image")]
    places = [place for wnid, place in labelled if wnid]
    wnids = [wnid for wnid, _ in labelled if wnid]
    if not places:
        raise ManifestError(
            f"{len(labelled):,} images in {root}, none with a WordNet id in its name; expected ROOT/n00004475/*.JPEG"
        )
    if len(places) < len(labelled):
        logger.warning("%s: %d images have no WordNet id and are left out", root, len(labelled) - len(places))
    classes = named_classes(wnids, words)
    label_of = {wnid: label for label, wnid in enumerate(classes)}
    placed = {"train": Placed(places, [label_of[wnid] for wnid in wnids])}
    return write_placed(placed, list(classes.values()), root=root, kind="image", out=out, name=name)
