"""ImageNet-21k (all of ImageNet), as image-net.org distributes it → a manifest.

ROOT/n00004475/n00004475_6590.JPEG    class folders, or
ROOT/n00004475.tar                    a tar a class, or
ROOT/fall11_whole.tar                 the tar of all those tars
ROOT/words.txt                        n00004475    organism, being
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from cover.datasets.annotation_files import AnnotationFiles, as_published, read_lines
from cover.datasets.location import LocatedSplit, Location, write_manifests
from cover.datasets.manifest import Manifest
from cover.datasets.names import stem_of
from cover.datasets.scan import scan
from cover.errors import ManifestError

logger = logging.getLogger(__name__)

_WNID = re.compile(r"n\d{8}")


def index_imagenet21k(
    root: str | Path, *, out: str | Path, name: str = "imagenet21k", annotations: str | Path | None = None
) -> list[Manifest]:
    """Write OUT/NAME-train.arrow for the images below `root`; the dataset has no other split.

    Classes are the WordNet ids (wnids, such as n01440764) that occur, sorted. Their names are the words in words.txt,
    or else the wnids.

    Args:
        root: The folder of the dataset.
        out: The folder for the manifest.
        name: The name of the dataset.
        annotations: The folder of words.txt, if not ROOT.

    Returns:
        The manifest.

    Raises:
        ManifestError: No image or folder has a wnid in its name.
    """
    words_file = AnnotationFiles(root, annotations).find("words.txt")
    words = read_words(words_file) if words_file else {}
    labelled = [(wnid_of(location), location) for location in scan(Path(root), "image")]
    locations = [location for wnid, location in labelled if wnid]
    wnids = [wnid for wnid, _ in labelled if wnid]
    if not locations:
        raise ManifestError(
            f"{len(labelled):,} images in {root}, none with a WordNet id in its name; expected ROOT/n00004475/*.JPEG"
        )
    if len(locations) < len(labelled):
        logger.warning("%s: %d images have no WordNet id and are left out", root, len(labelled) - len(locations))
    classes = named_classes(wnids, words)
    label_of = {wnid: label for label, wnid in enumerate(classes)}
    located = {"train": LocatedSplit(locations, [label_of[wnid] for wnid in wnids])}
    return write_manifests(located, list(classes.values()), root=root, kind="image", out=out, name=name)


def wnid_of(location: Location) -> str | None:
    """Return the wnid in the name of a file (n01440764_10026.JPEG), or else of the closest folder or tar, or None."""
    *folders, file = location.name.split("/")
    stem = stem_of(file).partition("_")[0]
    return next((part for part in (stem, *reversed(folders)) if _WNID.fullmatch(part)), None)


def read_words(file: Path) -> dict[str, str]:
    """Read wnid → words from lines such as `n01440764 tench, Tinca tinca`.

    Raises:
        ManifestError: The file does not have this form.
    """
    with as_published(file):
        pairs = (line.split(maxsplit=1) for line in read_lines(file))
        return {as_wnid(wnid): words.strip() for wnid, words in pairs}


def as_wnid(text: str) -> str:
    """Return `text` if it is a wnid.

    Raises:
        ValueError: It is not.
    """
    if not _WNID.fullmatch(text):
        raise ValueError(f"'{text}' is not a WordNet id")
    return text


def named_classes(wnids: Iterable[str], words: Mapping[str, str]) -> dict[str, str]:
    """Return wnid → class name, sorted by wnid, which is how the labels of ImageNet are numbered.

    A class is named by its words. If two synsets have the same words ("crane"), the wnid is added. Without words, the
    name is the wnid.

    Args:
        wnids: The classes.
        words: wnid → words.
    """
    ordered = sorted(set(wnids))
    counts = Counter(words.get(wnid, wnid) for wnid in ordered)
    names = ((wnid, words.get(wnid, wnid)) for wnid in ordered)
    return {wnid: name if counts[name] == 1 else f"{name} ({wnid})" for wnid, name in names}
