"""Check whether the folders of a dataset are meant as class folders: ROOT/class/… or ROOT/split/class/…."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from pathlib import Path

from cover.datasets.names import DERIVED_FOLDERS, MEDIA_SUFFIXES, SPLIT_NAMES, Kind, composed
from cover.datasets.notices import examples, shown
from cover.datasets.scan import Scan
from cover.errors import ManifestError

logger = logging.getLogger(__name__)

_MAX_PAIRS = 1000
"""The most pairs of files that are compared on disk."""


def has_split_folders(root: Path, names: Sequence[str]) -> bool:
    """Whether the folders in `root` are splits. A folder `train` that contains files itself is a class of trains.

    Args:
        root: The folder of the dataset.
        names: The names of the samples, relative to `root`.

    Raises:
        ManifestError: There are other folders with samples beside splits.
    """
    folders = [name.split("/")[:-1] for name in names if "/" in name]
    splits = {first for first, *rest in folders if first.lower() in SPLIT_NAMES and rest}
    others = {first for first, *_ in folders if first.lower() not in SPLIT_NAMES.keys() | DERIVED_FOLDERS}
    if splits and others:
        raise ManifestError(
            f"{root} contains the split {min(splits)} beside {shown(min(others))}; either every folder is a split "
            f"({', '.join(SPLIT_NAMES)}) with class folders or every folder is a class: move the others elsewhere"
        )
    return bool(splits)


def report(found: Scan, num_samples: int) -> None:
    """Warn about what was left out.

    Args:
        found: The scan.
        num_samples: How many samples remain.

    Raises:
        ManifestError: No sample remains.
    """
    seen = ", ".join(f"{count} {suffix}" for suffix, count in found.others.most_common(5))
    if not num_samples:
        left_out = ", ".join(filter(None, (seen, str(found.notices)))) or "it is empty"
        raise ManifestError(
            f"{found.root} has no {found.kind} files in class folders ({left_out}); "
            f"expected ROOT/class/file or ROOT/split/class/file{_advice(found)}"
        )
    if found.others:
        message = "%s: %d files are not %ss of a class and are left out (%s)"
        logger.warning(message, found.root, found.others.total(), found.kind, seen)
    found.notices.warn(found.root)


def _advice(found: Scan) -> str:
    """Return what to do about files in no class folder."""
    loose = [suffix for suffix in found.others if suffix in MEDIA_SUFFIXES[found.kind]]
    if loose:
        folder = found.root.resolve().parent
        return (
            f"; move each file into a folder named after its class, or write a list with a line `FILE,CLASS` for each "
            f"and run `cover index csv LIST --kind {found.kind} --root {found.root}`; if the folder is itself a class, "
            f"index {shown(str(folder))}"
        )
    other: Kind = "image" if found.kind == "video" else "video"
    if any(suffix in MEDIA_SUFFIXES[other] for suffix in found.others):
        return f"; for the {other}s, pass --kind {other}"
    return ""


def check_folders(found: Scan, classes: Collection[str], names: Sequence[str], has_splits: bool) -> None:
    """Warn about folders that are not classes, and classes that may not be meant.

    Args:
        found: The scan.
        classes: The names of the class folders with samples.
        names: The names of these samples.
        has_splits: Whether the class folders lie in split folders.

    Raises:
        ManifestError: Split folders lie below the class folders.
    """
    if not classes:
        return
    _check_splits_below(found.root, names, has_splits)
    _check_same_folders_below(found.root, names, has_splits)
    if derived := sorted(class_name for class_name in classes if class_name.lower() in DERIVED_FOLDERS):
        message = "%s: %d classes are named like folders of derived pictures (%s); are they really classes?"
        logger.warning(message, found.root, len(derived), examples(derived))
    if empty := _empty_class_folders(found, classes, has_splits):
        message = "%s: %d folders have no %ss and are not classes, such as %s"
        texts = [f"{folder} ({_suffixes(suffixes)})" for folder, suffixes in sorted(empty.items())]
        logger.warning(message, found.root, len(empty), found.kind, examples(texts))


def check_hard_links(found: Scan, samples: Iterable[tuple[str, Hashable]]) -> None:
    """Warn about files that are samples of several classes or splits, as hard links.

    Args:
        found: The scan.
        samples: The path and the label of each sample, where the label identifies its class and split.
    """
    groups = found.hard_links.groups()
    linked = {path for group in groups for path in group}
    label_of = {path: label for path, label in samples if path in linked} if linked else {}
    pairs: list[str] = []
    for group in groups:
        first_of = {label_of[path]: path for path in reversed(group) if path in label_of}
        one, *others = sorted(first_of.values()) or [""]
        if others and len(pairs) < _MAX_PAIRS and _are_one_file(found.root / one, found.root / others[0]):
            pairs.append(f"{one} = {others[0]}")
    if pairs:
        message = "%s: %s%s files are in several classes or splits as hard links, such as %s; keep each in one"
        at_least = "at least " * (len(pairs) == _MAX_PAIRS)
        logger.warning(message, found.root, at_least, f"{len(pairs):,}", examples(pairs))


def _are_one_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _check_splits_below(root: Path, names: Sequence[str], has_splits: bool) -> None:
    below: dict[str, set[str]] = {}  # class folder → split folders in it, "" for samples in none
    for name in names:
        folders = name.split("/")[has_splits:-1]
        inside = next((folder for folder in folders[1:] if folder.lower() in SPLIT_NAMES), "")
        below.setdefault(folders[0], set()).add(inside)
    split_folders = [f"{folder}/{split}" for folder, splits in below.items() for split in sorted(splits) if split]
    if not split_folders:
        return
    all_have = all("" not in splits for splits in below.values())
    if all_have or any(len(splits - {""}) > 1 for splits in below.values()):
        (first, *others) = below
        remedy = "move them above the class folders" if others else f"index {shown(str(root / first))}"
        raise ManifestError(
            f"{root} has split folders inside class folders, such as {examples(split_folders)}; expected "
            f"ROOT/split/class/file: {remedy}"
        )
    message = "%s: %d folders inside class folders are named like splits, such as %s; their files belong to the class"
    logger.warning(message, root, len(split_folders), examples(split_folders))


def _check_same_folders_below(root: Path, names: Sequence[str], has_splits: bool) -> None:
    """Warn if the folders inside class folders look like the real classes.

    They do if all samples are in such folders and their names recur.
    """
    below: dict[str, set[str]] = {}  # class folder → folders in it, "" for samples in none
    for name in names:
        folders = name.split("/")[has_splits:-1]
        below.setdefault(folders[0], set()).add(folders[1] if len(folders) > 1 else "")
    counts = Counter(inside for folders in below.values() if "" not in folders for inside in folders)
    shared = sorted(inside for inside, count in counts.items() if count > 1)
    divided = sorted(folder for folder, inside in below.items() if len(inside.intersection(shared)) > 1)
    if 2 * len(divided) > len(below) and 2 * len(shared) >= len(counts):
        message = (
            "%s: %d class folders, such as %s, contain folders of the same names, such as %s; if these are the "
            "classes, call the folders above them train, val and test, or index each of those by itself"
        )
        logger.warning(message, root, len(divided), examples(divided), examples(shared))


def _empty_class_folders(found: Scan, classes: Collection[str], has_splits: bool) -> dict[str, Counter[str]]:
    """Return the folders where a class would lie but that have no sample → how often each suffix occurs there."""
    empty: dict[str, Counter[str]] = {}
    for folder, suffixes in found.without.items():
        parts = folder.split("/")
        if not folder or len(parts) <= has_splits or (has_splits and parts[0].lower() not in SPLIT_NAMES):
            continue
        if (class_name := composed(parts[has_splits])) not in classes and class_name.lower() not in DERIVED_FOLDERS:
            empty.setdefault(class_name, Counter()).update(suffixes)
    return empty


def _suffixes(suffixes: Counter[str]) -> str:
    return ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(3)) or "empty"
