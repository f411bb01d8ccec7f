"""The lines of an annotation list, whatever separates their fields and whatever its columns are called."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from cover.catalog.annotation_files import read_text_lines
from cover.catalog.notices import examples, shown
from cover.catalog.suffixes import MEDIA_SUFFIXES, suffix_of
from cover.errors import ManifestError

logger = logging.getLogger(__name__)

COLUMNS = ("path", "label", "start_seconds", "end_seconds", "num_frames", "split", "source_id")
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

    place: FILE:LINE, for messages.
    may_be_header: whether it is the first line, and none of its fields looks like the path of a file.
    """

    place: str
    values: Mapping[str, str]
    may_be_header: bool = False

    def number(self, column: str, parse: Callable[[str], Value]) -> Value | None:
        """The number in a column, None where it is empty. Raises ManifestError for anything else."""
        text = self.values.get(column, "")
        if not text:
            return None
        try:
            return parse(text)
        except ValueError:
            raise ManifestError(
                f"{self.place}: {column} is '{shown(text)}'; it takes a number or nothing; put paths with separators "
                "in quotes, and if this line is a header, call its columns path and label"
            ) from None


def whole_number(text: str) -> int:
    """16 for "16" and "16.0". Raises ValueError."""
    number = float(text)
    if not number.is_integer():
        raise ValueError
    return int(number)


def read_list(file: Path) -> Iterator[Entry]:
    """The lines of a list with the names of their columns, COLUMNS or others.

    Raises:
        ManifestError: It is not text, a line has more or fewer fields than the first one, or its header is unclear.
    """
    if not file.exists():
        raise ManifestError(f"{file} does not exist; give the annotation list")
    filled = [(number, line) for number, line in enumerate(read_text_lines(file), start=1) if line]
    if not filled:
        raise ManifestError(f"{file} is empty; it takes a line a sample: `path label`")
    delimiter = _delimiter([line for _, line in filled[:20]])
    header: list[str] | None = None
    for number, line in filled:
        fields = _fields(line, delimiter, f"{file}:{number}")
        is_first = header is None
        if header is None:
            header, is_header = _header(f"{file}:{number}", fields)
            if is_header:
                continue
        if len(fields) != len(header):
            raise ManifestError(
                f"{file}:{number}: {len(fields)} fields in '{shown(line)}'; the first line has {len(header)}: "
                "put paths with separators in quotes"
            )
        values = dict(zip(header, fields, strict=True))
        yield Entry(f"{file}:{number}", values, is_first and not any(map(_is_path, fields)))


def _delimiter(lines: Sequence[str]) -> str:
    """The first of tab, semicolon, comma and blank that divides all lines into the same number of fields."""
    for delimiter in "\t;, ":
        counts = {len(_fields(line, delimiter, "")) for line in lines}
        if counts != {1} and len(counts) == 1:
            return delimiter
    return next(delimiter for delimiter in "\t;, " if delimiter in f"{lines[0]} ")


def _fields(line: str, delimiter: str, place: str) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
    except csv.Error as error:
        raise ManifestError(f"{place}: '{shown(line)}' cannot be read ({error}); correct the line") from error


def _header(place: str, fields: list[str]) -> tuple[list[str], bool]:
    """Names of the columns, and whether the first line was itself the header."""
    words = [field.lower().replace(" ", "_").replace("-", "_") for field in fields]
    meanings = [_MEANING.get(word) for word in words]
    is_named = {"path", "label"} <= set(meanings) and not any(map(_is_path, fields))
    if is_named or "path" in words or "label" in words:
        return _named(place, words), True
    if len(fields) not in _WITHOUT_HEADER:
        raise ManifestError(
            f"{place}: {len(fields)} fields without a header, such as {examples(fields)}; lines are `path label` or "
            f"`path num_frames label`, or the first line names the columns: {', '.join(COLUMNS)}"
        )
    return _WITHOUT_HEADER[len(fields)], False


def _is_path(field: str) -> bool:
    return "/" in field or any(suffix_of(field) in suffixes for suffixes in MEDIA_SUFFIXES.values())


def _named(place: str, words: Sequence[str]) -> list[str]:
    """What the columns of a header are. Raises ManifestError where that is unclear."""
    columns = list(words)
    for column in COLUMNS:
        found = [number for number, word in enumerate(words) if _MEANING.get(word) == column]
        exact = [number for number in found if words[number] == column]
        if len(chosen := exact or found) > 1 or (not chosen and column in {"path", "label"}):
            hint = "; lists of Kinetics are for `cover index kinetics400`" if "youtube_id" in words else ""
            shown_words = ", ".join(map(shown, islice(words, 12)))
            raise ManifestError(f"{place}: columns {shown_words}; exactly one must be called {column}{hint}")
        if chosen:
            columns[chosen[0]] = column
    others = [word for word in columns if word not in COLUMNS]
    if unclear := [word for word in others if word.split("_")[0] in _MAYBE_SEGMENT]:
        raise ManifestError(
            f"{place}: column {shown(unclear[0])} may be a time in seconds or a frame; call times start_seconds and "
            "end_seconds, and delete the other columns"
        )
    if others:
        message = "%s: %d columns are ignored (%s); used are %s"
        logger.warning(message, place, len(others), examples(others), ", ".join(COLUMNS))
    return columns
