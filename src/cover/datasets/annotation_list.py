"""Read the lines of an annotation list, whatever its separators and column names."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from cover.datasets.annotation_files import read_text_lines
from cover.datasets.names import MEDIA_SUFFIXES, suffix_of
from cover.datasets.notices import examples, shown
from cover.errors import ManifestError

logger = logging.getLogger(__name__)

COLUMNS = ("path", "label", "start_seconds", "end_seconds", "num_frames", "split", "source_id", "label_weight")
_WITHOUT_HEADER = {2: ["path", "label"], 3: ["path", "num_frames", "label"]}

_SYNONYMS = {
    "path": "paths file files filename file_name filepath file_path fname video video_file video_name video_path "
    "videos clip clip_file clip_name clip_path image image_file image_name image_path images img img_name img_path "
    "frame_dir frame_folder frames_dir",
    "label": "labels class classes class_id class_idx class_index class_label class_name classid classname category "
    "category_id category_name target action action_name action_label label_id label_index label_name",
    "start_seconds": "start_sec start_secs start_time time_start t_start begin_time",
    "end_seconds": "end_sec end_secs end_time time_end t_end stop_time",
    "num_frames": "numframes n_frames nframes frames frame_count total_frames number_of_frames",
    "split": "subset partition",
    "source_id": "youtube_id",
}
_MEANING = {word: column for column, words in _SYNONYMS.items() for word in [column, *words.split()]}
_MAYBE_SEGMENT = ("start", "end", "begin", "stop", "onset", "offset")

Value = TypeVar("Value", int, float)


@dataclass(frozen=True)
class Entry:
    """One line of a list.

    Attributes:
        position: FILE:LINE, for messages.
        values: Column → text.
        is_first: Whether this is the first line of a list without a header.
    """

    position: str
    values: Mapping[str, str]
    is_first: bool = False

    @property
    def has_path(self) -> bool:
        """Whether a field looks like the path of a file, as no header does."""
        return any(map(_is_path, self.values.values()))

    def number(self, column: str, parse: Callable[[str], Value]) -> Value | None:
        """Return the number in a column, or None if it is empty.

        Args:
            column: The name of the column.
            parse: Converts text to a number, or raises ValueError.

        Raises:
            ManifestError: The field contains something else.
        """
        text = self.values.get(column, "")
        if not text:
            return None
        try:
            return parse(text)
        except ValueError:
            remedy = "correct it, and put paths with separators in quotes"
            if self.is_first and not self.has_path:
                remedy = "if this is a header, call its columns path and label"
            raise ManifestError(
                f"{self.position}: {column} is '{shown(text)}'; it is a number from 0 or empty: {remedy}"
            ) from None


def whole_number(text: str) -> int:
    """Parse a non-negative whole number: 16 for "16" and "16.0".

    Raises:
        ValueError: The text is anything else.
    """
    number = float(text)
    if number < 0 or not number.is_integer():
        raise ValueError
    return int(number)


def seconds(text: str) -> float:
    """Parse a time in seconds.

    Raises:
        ValueError: The text is not a number, or negative, infinite or NaN.
    """
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError
    return number


def share(text: str) -> float:
    """Parse a number from 0 to 1.

    Raises:
        ValueError: The text is none.
    """
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError
    return number


def read_list(file: Path) -> Iterator[Entry]:
    """Yield the lines of a list, with the names of their columns.

    Args:
        file: The list.

    Raises:
        ManifestError: It is not text, its header is unclear, or a line has more or fewer fields than the first one.
    """
    if not file.exists():
        raise ManifestError(f"{file} does not exist; give the annotation list")
    header: list[str] | None = None
    for position, fields in read_rows(file):
        is_first = header is None
        if header is None:
            header, is_header = _header(position, fields)
            if is_header:
                continue
        if len(fields) != len(header):
            raise ManifestError(
                f"{position}: {len(fields)} fields, '{shown(' | '.join(fields))}'; the first line has {len(header)}: "
                "put paths with separators in quotes"
            )
        yield Entry(position, dict(zip(header, fields, strict=True)), is_first)
    if header is None:
        raise ManifestError(f"{file} is empty; write a line for each sample: `path label`")


def read_rows(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield FILE:LINE and the fields of each line that is not blank, whatever separates the fields.

    A separator at the end of every line is ignored.

    Raises:
        ManifestError: The file is not text, or a line cannot be read.
    """
    filled = [(number, line) for number, line in enumerate(read_text_lines(file), start=1) if line]
    delimiter = _delimiter([line for _, line in filled[:20]]) if filled else ","
    is_closed = all(line.endswith(delimiter) for _, line in filled)
    for number, line in filled:
        try:
            fields = _fields(line, delimiter)
        except csv.Error as error:
            raise ManifestError(f"{file}:{number}: '{shown(line)}' cannot be read ({error}); correct it") from error
        yield f"{file}:{number}", fields[:-1] if is_closed else fields


def _delimiter(lines: Sequence[str]) -> str:
    """Return the first of tab, semicolon, comma and blank that divides all lines into the same number of fields.

    A delimiter that separates the names of media files takes precedence.
    """
    possible: list[tuple[bool, int, str]] = []
    for delimiter in "\t;, ":
        divided = [_divided(line, delimiter) for line in lines]
        if len({len(fields) for fields in divided}) == 1 < len(divided[0]):
            possible.append((not any(map(_has_media_suffix, divided[-1])), len(possible), delimiter))
    return min(possible)[2] if possible else next(delimiter for delimiter in "\t;, " if delimiter in f"{lines[0]} ")


def _divided(line: str, delimiter: str) -> list[str]:
    try:
        return _fields(line, delimiter)
    except csv.Error:
        return [line]


def _fields(line: str, delimiter: str) -> list[str]:
    return [field.strip() for field in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]


def _header(position: str, fields: list[str]) -> tuple[list[str], bool]:
    """Return the names of the columns, and whether the first line is itself the header."""
    words = [field.lower().replace(" ", "_").replace("-", "_") for field in fields]
    meanings = [_MEANING.get(word) for word in words]
    is_named = {"path", "label"} <= set(meanings) and not any(map(_is_path, fields))
    if is_named or "path" in words or "label" in words:
        return _named(position, words), True
    if len(fields) not in _WITHOUT_HEADER:
        raise ManifestError(
            f"{position}: {len(fields)} fields without a header, such as {examples(fields)}; lines are `path label` or "
            f"`path num_frames label`, or the first line names the columns: {', '.join(COLUMNS)}"
        )
    return _WITHOUT_HEADER[len(fields)], False


def _is_path(field: str) -> bool:
    return "/" in field or "\\" in field or _has_media_suffix(field)


def _has_media_suffix(field: str) -> bool:
    return any(suffix_of(field) in suffixes for suffixes in MEDIA_SUFFIXES.values())


def _named(position: str, words: Sequence[str]) -> list[str]:
    """Return the column that each word of a header stands for. Raises ManifestError if that is unclear."""
    columns = list(words)
    for column in COLUMNS:
        found = [number for number, word in enumerate(words) if _MEANING.get(word) == column]
        exact = [number for number in found if words[number] == column]
        if len(chosen := exact or found) > 1 or (not chosen and column in {"path", "label"}):
            hint = "; index lists of Kinetics with `cover index kinetics400`" if "youtube_id" in words else ""
            shown_words = ", ".join(map(shown, islice(words, 12)))
            raise ManifestError(f"{position}: columns {shown_words}; exactly one must be called {column}{hint}")
        if chosen:
            columns[chosen[0]] = column
    others = [word or f"number {number}" for number, word in enumerate(columns, start=1) if word not in COLUMNS]
    if unclear := [word for word in others if word.split("_")[0] in _MAYBE_SEGMENT]:
        raise ManifestError(
            f"{position}: column {shown(unclear[0])} may be a time in seconds or a frame; call times start_seconds and "
            "end_seconds, and delete the other columns"
        )
    if others:
        message = "%s: %d columns are ignored (%s); the columns in use are %s"
        logger.warning(message, position, len(others), examples(others), ", ".join(COLUMNS))
    return columns
