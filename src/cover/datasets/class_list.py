"""Which classes a dataset has, in label order: from a class list, or from the labels of its samples."""

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
from cover.errors import ManifestError

logger = logging.getLogger(__name__)

_NUMBER = re.compile(r"(-?\d{1,18})(?:\.0+)?")
_NUMBERED = re.compile(r"(\d{1,9})(?:\s*[,;:\t]\s*|[.)]?\s+)(\S.*)")
_NUMBER_BEHIND = re.compile(r"(.*\S)(?:\s*[,;:\t]\s*|\s+)(\d{1,9})")
_QUOTED = re.compile(r'"(?:[^"]|"")*"(?:\s*([,;\t])|( )"|$)|\d+\s*([,;\t])\s*"')
"""The beginning of a line with quotes around fields, and the sign between them."""
_HEADER = re.compile(r"(category|class|label|name)s?|categories|(category|class|label)_?names?")
_DENSE = 1000  # up to here, numbers that leave gaps are still label numbers and not ids


class Classes(NamedTuple):
    """The classes that labels stand for: names in label order, and the text of a label → its number."""

    names: list[str]
    label_of: Mapping[str, int]

    @classmethod
    def of(cls, names: Sequence[str]) -> Classes:
        """Labels are the names."""
        return cls(list(names), {name: label for label, name in enumerate(names)})


def number_of(label: str) -> int | None:
    """The number that a label is, 7 for "7", "007" and "7.0"; None for a name."""
    found = _NUMBER.fullmatch(label)
    return int(found[1]) if found else None


def classes_of(labels: Iterable[str], source: str) -> Classes:
    """The classes of labels that come without a class list.

    Names are sorted. If all labels are numbers, the classes are 0 to the largest one. If these are so far apart that
    they must be ids, they are names, sorted as numbers, which a warning says.

    Raises:
        ManifestError: A number is negative or is written in two ways, such as 7 and 007.
    """
    distinct = sorted(set(labels))
    numbers = {label: number for label in distinct if (number := number_of(label)) is not None}
    if not numbers or len(numbers) < len(distinct):
        if numbers:
            message = "%s: labels are numbers and names, %d and %d, such as %s and %s; all are taken as names"
            others = [label for label in distinct if label not in numbers]
            logger.warning(message, source, len(numbers), len(others), shown(next(iter(numbers))), shown(others[0]))
        return Classes.of(distinct)
    written = _written_once(numbers, source)
    if (smallest := min(written)) < 0:
        raise ManifestError(f"{source}: label {smallest} is negative; labels are 0 and up: leave out what has no label")
    if (largest := max(written)) < _DENSE or largest < 10 * len(written):
        return Classes([str(number) for number in range(largest + 1)], numbers)
    message = "%s: labels are %d numbers up to %d, so they are taken as names of %d classes, not as label numbers"
    logger.warning(message, source, len(written), largest, len(written))
    place = {number: label for label, number in enumerate(sorted(written))}
    return Classes([written[number] for number in sorted(written)], {label: place[numbers[label]] for label in numbers})


def listed_classes(class_names: Sequence[str], labels: Iterable[str], source: str | Path) -> Classes:
    """The classes of a class list. Of `labels`, those that are neither names in it nor numbers into it have no number.

    A first name that is a usual header, such as "name", is left out with a warning, unless the labels need it: one is
    called so, or the largest is the number of the last name. Warns of numbers that seem to count from 1.
    """
    names = [composed(name) for name in class_names]
    texts = set(labels)
    largest = max((number for label in texts if (number := number_of(label)) is not None), default=-1)
    is_header = bool(_HEADER.fullmatch(reading_key("".join(names[:1])).replace(" ", "_"))) and names[0] not in texts
    is_needed = largest == len(names) - 1
    if is_header and is_needed:
        message = "%s: class 0 is called %s, as a header is; if it is one, delete this line of the class list"
        logger.warning(message, source, shown(names[0]))
    elif is_header:
        message = "%s: the first line of the class list, %s, is taken as a header; if it is a class, rename it"
        logger.warning(message, source, shown(names.pop(0)))
    by_name = {name: label for label, name in enumerate(names)}
    numbers = {label: number for label in texts - by_name.keys() if (number := number_of(label)) is not None}
    counts_from_1 = bool(numbers) and min(numbers.values()) == 1 and largest < len(names)
    if counts_from_1 and names[0] != "0" and not (is_header and is_needed):
        message = "%s: labels are 1 to %d, so none is class 0, %s; if they count from 1, number the class list: `1 %s`"
        logger.warning(message, source, largest, shown(names[0]), shown(names[0]))
    return Classes(names, by_name | {label: number for label, number in numbers.items() if 0 <= number < len(names)})


def _written_once(numbers: Mapping[str, int], source: str) -> dict[int, str]:
    """number → how it is written. Raises ManifestError for a number that is written with and without zeros."""
    written: dict[int, str] = {}
    for label, number in numbers.items():
        text = label.partition(".")[0]
        if written.setdefault(number, text) != text:
            raise ManifestError(
                f"{source}: labels {written[number]} and {text} are the same number; write each class in one way"
            )
    return written


def read_class_list(file: Path) -> list[str]:
    """The names of classes in label order: line n names class n, counted from 0, unless the lines have numbers.

    Numbers before or behind the names count (`0 run`, `1,jump`, `swim 2`, `"3","fly"`), so that `1 run` names class 1.
    A class that no line names, because it is blank or its number is left out, is called by its number. Lines that begin
    with # are left out with a warning, unless all do. A first line that is not numbered as all others are is a header,
    with a warning, if at least two others are.

    Raises:
        ManifestError: It cannot be read, every second line is blank, a number occurs twice, or a line has further
            columns.
    """
    if file.suffix.lower() == ".json":
        raise ManifestError(f"{file} is JSON; a class list is text with a name a line, in label order")
    lines = _without_comments([_unquoted(composed(line), file) for line in read_text_lines(file)], file)
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) > 4 and not any(lines[1::2]):
        raise ManifestError(f"{file}: every second line is blank; line n names class n: save it without blank lines")
    names = _numbered(lines, file) or dict(enumerate(lines))
    named = {number: name.strip('"') for number, name in names.items() if name.strip('"')}
    if not named:
        raise ManifestError(f"{file} is empty; a class list has a name a line, in label order")
    if wide := next((name for name in named.values() if "\t" in name), None):
        raise ManifestError(
            f"{file}: '{shown(wide)}' are several columns; a class list has a name a line, with at most a number: "
            "delete the others"
        )
    unnamed = [str(number) for number in range(max(named) + 1) if number not in named]
    if unnamed:
        message = "%s names %d classes up to number %d; the others, such as %s, are called by their numbers"
        logger.warning(message, file, len(named), max(named), examples(unnamed))
    return [named.get(number, str(number)) for number in range(max(named) + 1)]


def _unquoted(line: str, source: Path) -> str:
    """A line with tabs between its fields, if there are quotes around some of them."""
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
    logger.warning("%s: %d lines begin with # and are left out, such as %s", source, len(comments), examples(comments))
    return [line for line in lines if not line.startswith("#")]


def _numbered(lines: Sequence[str], source: Path) -> dict[int, str] | None:
    """number → name, of lines that state the numbers of the classes. "100 metres" and "200 metres" do not."""
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
                    logger.warning("%s: the first line, %s, is taken as a header", source, shown(header[0]))
                return names
    return None


def _refuse_twice(numbers: Sequence[int], lines: Sequence[str], source: Path) -> None:
    number = next(number for number in numbers if numbers.count(number) > 1)
    same = examples(line for line, other in zip(lines, numbers, strict=True) if other == number)
    raise ManifestError(
        f"{source}: number {number} occurs twice ({same}); give each class a number of its own, or, if the numbers are "
        "parts of the names, number all lines: `0 NAME`"
    )
