"""Check whether the classes of a dataset make sense: once for every indexing, over all splits together.

Each kind of oddity is one warning, with counts. If the classes cannot be meant, indexing stops.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cover.datasets.class_list import number_of
from cover.datasets.manifest import Manifest
from cover.datasets.names import SPLIT_NAMES, reading_key, split_in
from cover.datasets.notices import examples, shown
from cover.errors import ManifestError, OtherClassesError

logger = logging.getLogger(__name__)

_MANY_CLASSES = 100
_MISSING = frozenset({"", "-", "--", ".", "?", "#n/a", "<na>", "n/a", "na", "nan", "nil", "none", "null", "undefined"})
"""What stands for a missing value in tables, as `reading_key` returns it."""
_SEPARATORS = re.compile(r"\s*[|;,]\s*")

Counts = Mapping[str, npt.NDArray[np.int64]]
"""Split → number of samples of each class, int64 [classes]."""


def check_classes(
    labels: Mapping[str, npt.NDArray[np.int64]], class_names: Sequence[str], *, name: str, out: Path
) -> None:
    """Warn about odd classes.

    Args:
        labels: Split → class of each of its samples, int64 [samples].
        class_names: In label order.
        name: The name of the dataset.
        out: The folder of its manifests. Existing manifests of other splits must have the same classes.

    Raises:
        ManifestError: The classes cannot be meant.
        OtherClassesError: A manifest that would be replaced has other classes.
    """
    if any(len(values) and not 0 <= values.min() <= values.max() < len(class_names) for values in labels.values()):
        return  # write_manifest reports the sample
    _refuse_to_replace(class_names, set(labels), name, out)
    counts = {split: np.bincount(values, minlength=len(class_names)) for split, values in labels.items()}
    _refuse_split_names(class_names, name)
    _compare_names(class_names, counts, name)
    for message in (
        *_about_names(class_names),
        *_about_labels(class_names, counts),
        *_about_counts(class_names, counts),
        *_about_other_manifests(class_names, set(labels), name, out),
    ):
        logger.warning("%s: %s", name, message)


def _refuse_split_names(class_names: Sequence[str], name: str) -> None:
    """Refuse classes that are all named like splits."""
    are_splits = all(class_name.lower() in SPLIT_NAMES for class_name in class_names)
    state_splits = len(class_names) > 1 and all(map(split_in, class_names))
    if are_splits or state_splits:
        raise ManifestError(
            f"the classes of {name} are named like splits ({examples(class_names)}); put class folders into split "
            "folders named train, val or test: ROOT/train/class/file"
        )


def _compare_names(class_names: Sequence[str], counts: Counts, name: str) -> None:
    """Refuse names that people read as the same, or warn about them if they may be meant."""
    groups: dict[str, list[int]] = {}
    for label, class_name in enumerate(class_names):
        groups.setdefault(reading_key(class_name), []).append(label)
    alike = [group for group in groups.values() if len(group) > 1]
    pairs = [" and ".join(repr(class_names[label]) for label in group[:2]) for group in alike]
    if refused := [
        pair for group, pair in zip(alike, pairs, strict=True) if not _differ_in_case(group, class_names, counts)
    ]:
        raise ManifestError(
            f"classes of {name} differ only in spaces, underscores, case or Unicode form: {examples(refused)}; "
            "give each class one name in all splits"
        )
    if pairs:
        logger.warning("%s: %d pairs of classes differ only in case, such as %s", name, len(pairs), examples(pairs))


def _differ_in_case(group: Sequence[int], class_names: Sequence[str], counts: Counts) -> bool:
    """Whether classes may be meant to differ only in case, such as letters: then a split has several of them."""
    texts = {unicodedata.normalize("NFC", class_names[label]) for label in group}
    if len(texts) < len(group) or len({text.casefold() for text in texts}) > 1:
        return False
    num_used = sum(any(samples[label] for samples in counts.values()) for label in group)
    return num_used < 2 or any(sum(samples[label] > 0 for label in group) > 1 for samples in counts.values())


def _about_names(class_names: Sequence[str]) -> Iterator[str]:
    if len(class_names) == 1:
        yield (
            f"all samples have one class, {shown(class_names[0])}, and a head needs two to learn anything; give the "
            "folder that holds a folder for each class, or label the files in a list for `cover index csv`"
        )
    if splits := [class_name for class_name in class_names if class_name.lower() in SPLIT_NAMES]:
        yield f"{len(splits)} classes are named like splits ({examples(splits)}); are they really classes?"


def _about_labels(class_names: Sequence[str], counts: Counts) -> Iterator[str]:
    """Find classes that may stand for no label, for several labels, or for the number of another class."""
    missing = [label for label, class_name in enumerate(class_names) if reading_key(class_name) in _MISSING]
    if num_samples := sum(int(samples[missing].sum()) for samples in counts.values()):
        shown_names = examples(class_names[label] for label in missing)
        yield f"{num_samples:,} samples have classes that may mean no label ({shown_names}); if so, delete them"
    compound = {name: parts for name in class_names if len(parts := _SEPARATORS.split(name)) > 1}
    known = set(class_names)
    of_others = [name for name, parts in compound.items() if not known.isdisjoint(parts)]
    if 2 * len(of_others) > len(compound):
        yield (
            f"{len(of_others)} classes look like several labels, such as {examples(of_others)}; if so, keep one label "
            "for each sample"
        )
    numbers: dict[int, list[str]] = {}
    for class_name in class_names:
        if (number := number_of(class_name)) is not None:
            numbers.setdefault(number, []).append(class_name)
    if same := [" and ".join(map(shown, names)) for names in numbers.values() if len(names) > 1]:
        yield f"{len(same)} numbers occur in several forms, such as {examples(same)}; are they one class?"


def _about_counts(class_names: Sequence[str], counts: Counts) -> Iterator[str]:
    total = sum(counts.values(), np.zeros(len(class_names), np.int64))
    num_classes = f"{len(class_names):,}"

    def some(chosen: npt.NDArray[np.bool_]) -> str:
        return examples(class_names[label] for label in np.flatnonzero(chosen)[:3])

    if num_empty := int((total == 0).sum()):
        hint = "; do the labels count from 1?" if class_names[0] == "0" and not total[0] and total[-1] else ""
        yield f"{num_empty:,} of {num_classes} classes have no samples, such as {some(total == 0)}{hint}"
    if (total > 0).sum() >= _MANY_CLASSES and total.sum() < 2 * (total > 0).sum():
        yield f"{total.sum():,} samples have {(total > 0).sum():,} classes; are the labels ids or captions?"
    if "train" not in counts:
        return
    train = counts["train"] > 0
    for split, samples in counts.items():
        if (unseen := (samples > 0) & ~train).any():
            yield f"{unseen.sum():,} of {num_classes} classes are in {split} and not in train, such as {some(unseen)}"
        if (absent := train & (samples == 0)).any():
            yield f"{absent.sum():,} of {num_classes} classes are in train and not in {split}, such as {some(absent)}"


def _about_other_manifests(class_names: Sequence[str], splits: set[str], name: str, out: Path) -> Iterator[str]:
    """Compare with manifests of other splits that were indexed before, list by list."""
    for file, other in _other_classes(class_names, set(SPLIT_NAMES.values()) - splits, name, out).items():
        yield (
            f"{file} has other classes, {len(other):,} instead of {len(class_names):,}; index all splits with one "
            "class list, or delete it"
        )


def _refuse_to_replace(class_names: Sequence[str], splits: set[str], name: str, out: Path) -> None:
    """Refuse to replace manifests of other classes."""
    found = _other_classes(class_names, splits, name, out)
    for file, other in found.items():
        example = min(set(other) ^ set(class_names), default=other[0])
        raise OtherClassesError(
            f"{file} has other classes, {len(other):,} instead of {len(class_names):,} (such as {shown(example)}), and "
            "runs may use it; choose another --name or --out, or replace it with --force",
            tuple(found),
        )


def _other_classes(class_names: Sequence[str], splits: set[str], name: str, out: Path) -> dict[Path, tuple[str, ...]]:
    """Return the manifests of some splits that have other classes, and these."""
    found = {}
    for file in (out / f"{name}-{split}.arrow" for split in sorted(splits)):
        try:
            other = Manifest.open(file).class_names if file.is_file() else tuple(class_names)
        except ManifestError:
            continue
        if other != tuple(class_names):
            found[file] = other
    return found
