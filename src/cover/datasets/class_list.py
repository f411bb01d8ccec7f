"""The classes of a dataset in label order: from a class list, or from the labels of its samples."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cover.datasets.annotation_files import read_text_lines
from cover.datasets.names import composed, reading_key
from cover.datasets.notices import examples, shown
from cover.errors import CoverError, ManifestError

logger = logging.getLogger(__name__)

_NUMBER = re.compile(r"(-?\d{1,18})(?:\.0+)?")
_NUMBERED = re.compile(r"(\d{1,9})(?:\s*[,;:\t]\s*|[.)]?\s+)(\S.*)")
_NUMBER_BEHIND = re.compile(r"(.*\S)(?:\s*[,;:\t]\s*|\s+)(\d{1,9})")
_QUOTED = re.compile(r'"(?:[^"]|"")*"(?:\s*([,;\t])|( )"|$)|\d+\s*([,;\t])\s*"')
"""The beginning of a line with quoted fields, and the delimiter between them."""
_HEADER = re.compile(r"(category|class|label|name)s?|categories|(category|class|label)_?names?")
_SIDE = re.compile(r"(?<![A-Za-z])(?:left|right|Left|Right|LEFT|RIGHT)(?![A-Za-z])")
_OTHER_SIDE = {"left": "right", "Left": "Right", "LEFT": "RIGHT"}
_OTHER_SIDE |= {right: left for left, right in _OTHER_SIDE.items()}
_DENSE = 1000  # below this, numbers with gaps are still labels and not ids


class Classes(NamedTuple):
    """Classes, and what labels stand for them.

    Attributes:
        names: The class names, in label order.
        label_of: Text of a label → label.
    """

    names: list[str]
    label_of: Mapping[str, int]

    @classmethod
    def of(cls, names: Sequence[str]) -> Classes:
        """Return classes whose labels are written as their names."""
        return cls(list(names), {name: label for label, name in enumerate(names)})


def number_of(label: str) -> int | None:
    """Return the number that a label is, 7 for "7", "007" and "7.0", or None for a name."""
    found = _NUMBER.fullmatch(label)
    return int(found[1]) if found else None


def classes_of(labels: Iterable[str], source: str) -> Classes:
    """Return the classes of labels that have no class list.

    Names are sorted. If all labels are numbers, the classes are 0 to the largest one. If these numbers are so sparse
    that they must be ids, each is a name, sorted as numbers; a warning says so.

    Args:
        labels: The labels of all samples.
        source: Where they come from, for messages.

    Raises:
        ManifestError: A number is negative, or is written in two ways, such as 7 and 007.
    """
    distinct = sorted(set(labels))
    numbers = {label: number for label in distinct if (number := number_of(label)) is not None}
    if not numbers or len(numbers) < len(distinct):
        if numbers:
            message = "%s: %d labels are numbers and %d are names, such as %s and %s; all count as names"
            others = [label for label in distinct if label not in numbers]
            logger.warning(message, source, len(numbers), len(others), shown(next(iter(numbers))), shown(others[0]))
        return Classes.of(distinct)
    written = _written_once(numbers, source)
    if (smallest := min(written)) < 0:
        raise ManifestError(
            f"{source}: label {smallest} is negative; labels start at 0: delete samples without a label"
        )
    if (largest := max(written)) < _DENSE or largest < 10 * len(written):
        return Classes([str(number) for number in range(largest + 1)], numbers)
    message = "%s: labels are %d numbers up to %d, so they count as names of %d classes, not as label numbers"
    logger.warning(message, source, len(written), largest, len(written))
    place = {number: label for label, number in enumerate(sorted(written))}
    return Classes([written[number] for number in sorted(written)], {label: place[numbers[label]] for label in numbers})


def listed_classes(class_names: Sequence[str], labels: Iterable[str], source: str | Path) -> Classes:
    """Return the classes of a class list. Labels that are neither names nor numbers in it are missing from `label_of`.

    If the first name is a usual header, such as "name", it is skipped with a warning, unless the labels need it: one
    label is this name, or the largest label is the number of the last name. Another warning says if numbers seem to
    start at 1.

    Args:
        class_names: The class list, in label order.
        labels: The labels of all samples.
        source: Where they come from, for messages.
    """
    names = [composed(name) for name in class_names]
    texts = set(labels)
    largest = max((number for label in texts if (number := number_of(label)) is not None), default=-1)
    is_header = bool(_HEADER.fullmatch(reading_key("".join(names[:1])).replace(" ", "_"))) and names[0] not in texts
    is_needed = largest == len(names) - 1
    if is_header and is_needed:
        message = "%s: class 0 is called %s, like a header; if it is one, delete this line of the class list"
        logger.warning(message, source, shown(names[0]))
    elif is_header:
        message = "%s: the first line of the class list, %s, counts as a header; if it is a class, rename it"
        logger.warning(message, source, shown(names.pop(0)))
    by_name = {name: label for label, name in enumerate(names)}
    numbers = {label: number for label in texts - by_name.keys() if (number := number_of(label)) is not None}
    counts_from_1 = bool(numbers) and min(numbers.values()) == 1 and largest < len(names)
    if counts_from_1 and names[0] != "0" and not (is_header and is_needed):
        message = "%s: labels are 1 to %d, so none is class 0, %s; if they start at 1, number the class list: `1 %s`"
        logger.warning(message, source, largest, shown(names[0]), shown(names[0]))
    return Classes(names, by_name | {label: number for label, number in numbers.items() if 0 <= number < len(names)})


def _written_once(numbers: Mapping[str, int], source: str) -> dict[int, str]:
    """Return number → how it is written. Raises ManifestError for a number with and without leading zeros."""
    written: dict[int, str] = {}
    for label, number in numbers.items():
        text = label.partition(".")[0]
        if written.setdefault(number, text) != text:
            raise ManifestError(
                f"{source}: labels {written[number]} and {text} are the same number; write each class in one way"
            )
    return written


def read_class_list(file: Path) -> list[str]:
    """Read the names of classes, in label order: line n names class n, counted from 0, unless the lines have numbers.

    Numbers before or after the names count (`0 run`, `1,jump`, `swim 2`, `"3","fly"`), so `1 run` names class 1. A
    class without a name is called by its number. Lines that begin with # are skipped with a warning, unless all lines
    do. If only the first line has no number and at least two others have one, it is a header and is skipped with a
    warning.

    Raises:
        ManifestError: The file cannot be read, every second line is blank, a number occurs twice, or a line has more
            columns.
    """
    if file.suffix.lower() == ".json":
        raise ManifestError(f"{file} is JSON; write a text file with a class name on each line, in label order")
    lines = _without_comments([_unquoted(composed(line), file) for line in read_text_lines(file)], file)
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) > 4 and not any(lines[1::2]):
        raise ManifestError(f"{file}: every second line is blank; line n names class n: save it without blank lines")
    names = _numbered(lines, file) or dict(enumerate(lines))
    named = {number: name.strip('"') for number, name in names.items() if name.strip('"')}
    if not named:
        raise ManifestError(f"{file} is empty; write a class name on each line, in label order")
    if wide := next((name for name in named.values() if "\t" in name), None):
        raise ManifestError(
            f"{file}: '{shown(wide)}' has several columns; a line is a name with at most a number: delete the others"
        )
    unnamed = [str(number) for number in range(max(named) + 1) if number not in named]
    if unnamed:
        message = "%s names %d classes up to number %d; the others, such as %s, are named by their numbers"
        logger.warning(message, file, len(named), max(named), examples(unnamed))
    return [named.get(number, str(number)) for number in range(max(named) + 1)]


def _unquoted(line: str, source: Path) -> str:
    """Return a line whose quoted fields are separated by tabs instead."""
    found = _QUOTED.match(line)
    if found is None:
        return line
    try:
        fields = next(csv.reader([line], delimiter=found[found.lastindex] if found.lastindex else ","))
    except csv.Error as error:
        raise ManifestError(f"{source}: '{shown(line)}' cannot be read ({error}); correct it") from error
    return "\t".join(field.strip() for field in fields).strip()


def _without_comments(lines: list[str], source: Path) -> list[str]:
    comments = [line for line in lines if line.startswith("#")]
    if not comments or len(comments) == sum(map(bool, lines)):
        return lines
    logger.warning("%s: %d lines begin with # and are skipped, such as %s", source, len(comments), examples(comments))
    return [line for line in lines if not line.startswith("#")]


def _numbered(lines: Sequence[str], source: Path) -> dict[int, str] | None:
    """Return number → name if the lines number the classes. "100 metres" and "200 metres" do not."""
    filled = [line for line in lines if line]
    for pattern, number_group, name_group in ((_NUMBERED, 1, 2), (_NUMBER_BEHIND, 2, 1)):
        for header, part in ((), filled), (filled[:1], filled[1:]):
            if header and pattern.fullmatch(header[0]):
                continue
            found = [match for line in part if (match := pattern.fullmatch(line))]
            names = {int(match[number_group]): match[name_group] for match in found}
            are_distinct = 1 < len(part) == len(found) == len({match[name_group] for match in found})
            if are_distinct and len(names) > 1 and min(names) <= 1 and max(names) <= 2 * len(part):
                if len(names) < len(part):
                    _refuse_twice([int(match[number_group]) for match in found], part, source)
                if header:
                    logger.warning("%s: the first line, %s, counts as a header", source, shown(header[0]))
                return names
    return None


def _refuse_twice(numbers: Sequence[int], lines: Sequence[str], source: Path) -> None:
    number = next(number for number in numbers if numbers.count(number) > 1)
    same = examples(line for line, other in zip(lines, numbers, strict=True) if other == number)
    raise ManifestError(
        f"{source}: number {number} occurs twice ({same}); give each class its own number, or, if the numbers belong "
        "to the names, number all lines: `0 NAME`"
    )


def names_side(class_name: str) -> bool:
    """Whether a class name has the word left or right."""
    return bool(_SIDE.search(class_name))


def mirror_pairs(class_names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pair the classes whose names swap left and right, which become each other when a clip is mirrored.

    >>> mirror_pairs(["Pulling from left to right", "Jumping", "Pulling from right to left"])
    (('Pulling from left to right', 'Pulling from right to left'),)

    Raises:
        CoverError: A name with left or right has no partner, or no name has one of the words.
    """
    sided = [name for name in class_names if names_side(name)]
    partners = {name: _SIDE.sub(lambda word: _OTHER_SIDE[word[0]], name) for name in sided}
    for name, partner in partners.items():
        if partner not in partners:
            raise CoverError(
                f'"auto" finds no class {partner!r} for the mirror image of {name!r}; write the pairs by hand, or turn '
                "horizontal_flip off"
            )
    if not sided:
        raise CoverError('"auto" finds no class with left or right in its name; leave it out')
    return tuple(pair for pair in partners.items() if sided.index(pair[0]) < sided.index(pair[1]))
