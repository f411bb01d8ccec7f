"""Find and read the annotation files of a dataset: lists of its samples, splits and classes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cover.core.text_files import read_text
from cover.datasets.notices import shown
from cover.errors import ManifestError

_MAX_BYTES = 2**31
"""The largest annotation list. One with fourteen million lines has 1 GB."""


class AnnotationFiles:
    """The folders in which a layout looks for its annotation files.

    Args:
        root: The folder of the dataset.
        annotations: The folder of the annotation files, if the user names it. Otherwise, files are looked for in ROOT
            and in `folders` below it.
        folders: Names of folders below ROOT.

    Raises:
        ManifestError: `annotations` is not a folder.
    """

    def __init__(self, root: str | Path, annotations: str | Path | None, *folders: str) -> None:
        self.root = Path(root)
        if annotations is not None and not Path(annotations).is_dir():
            raise ManifestError(f"{annotations} is not a folder; give the folder that contains the annotation files")
        self.folders = [Path(annotations)] if annotations else [self.root, *(self.root / folder for folder in folders)]

    def find(self, *patterns: str) -> Path | None:
        """Return the first file whose name matches a pattern, trying `patterns` in order; None if there is none."""
        found = (file for pattern in patterns for folder in self.folders for file in _matching(folder, pattern))
        return next(found, None)

    def need(self, *patterns: str) -> Path:
        """Return the first file whose name matches a pattern, trying `patterns` in order.

        Raises:
            ManifestError: There is none.
        """
        file = self.find(*patterns)
        if file is None:
            raise ManifestError(
                f"{' or '.join(patterns)} is not in {', '.join(map(str, self.folders))}; "
                "give the folder that contains it with --annotations"
            )
        return file

    def find_all(self, *patterns: str) -> list[Path]:
        """Return all files whose names match one of `patterns`, sorted."""
        return sorted({file for pattern in patterns for folder in self.folders for file in _matching(folder, pattern)})


def _matching(folder: Path, pattern: str) -> list[Path]:
    return sorted(file for file in folder.glob(pattern) if not file.name.startswith("."))


def read_text_lines(file: Path) -> list[str]:
    """Return the lines of a text file, stripped, with blank ones.

    Raises:
        ManifestError: The file cannot be read or is not UTF-8 text.
    """
    try:
        text = read_text(file, max_bytes=_MAX_BYTES)
    except (OSError, ValueError) as error:
        raise ManifestError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if "\0" in text:
        raise ManifestError(f"{file} is not text, because it has NUL bytes; save it as UTF-8 text")
    return [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def read_lines(file: Path) -> list[str]:
    """Return the lines of a text file that are not blank, stripped.

    Raises:
        ManifestError: The file cannot be read or is not UTF-8 text.
    """
    return [line for line in read_text_lines(file) if line]


@contextmanager
def as_published(file: Path) -> Iterator[None]:
    """Turn errors in the block into a ManifestError, because an annotation file does not have its published form.

    Raises:
        ManifestError: The block raises an error that unexpected content causes; the message names the file.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
        reason = " ".join(str(error).split())[:100]
        raise ManifestError(f"{file} does not have its published form ({reason}); download it again") from error


def read_records(file: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file whose first line names the columns.

    Args:
        file: The file.
        columns: Columns that it must have.

    Raises:
        ManifestError: A column is missing, or a line has fewer fields than the first one.
    """
    with as_published(file):
        reader = csv.DictReader(read_lines(file))
        if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
            raise ManifestError(f"{file} has no column {missing[0]}; download the file again")
        for row in reader:
            if None in row.values():
                raise ManifestError(f"{file}:{reader.line_num}: fields are missing; download the file again")
            yield row


def read_table(file: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file without a header.

    Args:
        file: The file.
        columns: The names of its first columns.

    Raises:
        ManifestError: A line has fewer columns; the message names the line.
    """
    with as_published(file):
        for number, fields in enumerate(csv.reader(read_lines(file)), start=1):
            if len(fields) < len(columns):
                text = shown(",".join(fields))
                raise ManifestError(f"{file}:{number}: '{text}' has no {columns[len(fields)]}; download the file again")
            yield dict(zip(columns, fields, strict=False))
