"""Where the annotation files of a dataset lie: lists of its samples, splits and classes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cover.core.text_files import read_text
from cover.datasets.notices import shown
from cover.errors import ManifestError

_MAX_BYTES = 2**31
"""Of an annotation list. One of fourteen million lines has 1 GB."""


class AnnotationFiles:
    """The folders in which a layout looks for its annotation files.

    root: of the dataset; `annotations`: where the files are, if the user says so; else they are looked for in ROOT
    and in those of `folders` below it that exist.

    Raises ManifestError when `annotations` is not a folder.
    """

    def __init__(self, root: str | Path, annotations: str | Path | None, *folders: str) -> None:
        self.root = Path(root)
        if annotations is not None and not Path(annotations).is_dir():
            raise ManifestError(f"{annotations} is not a folder; give the folder that holds the annotation files")
        self.folders = [Path(annotations)] if annotations else [self.root, *(self.root / folder for folder in folders)]

    def find(self, *patterns: str) -> Path | None:
        """The first file of a name that matches one of `patterns`, in their order."""
        found = (file for pattern in patterns for folder in self.folders for file in _matching(folder, pattern))
        return next(found, None)

    def need(self, *patterns: str) -> Path:
        """As `find`. Raises ManifestError when there is none."""
        file = self.find(*patterns)
        if file is None:
            raise ManifestError(
                f"{' or '.join(patterns)} is not in {', '.join(map(str, self.folders))}; "
                "give the folder that holds it with --annotations"
            )
        return file

    def find_all(self, *patterns: str) -> list[Path]:
        """All files of a name that matches one of `patterns`, sorted."""
        return sorted({file for pattern in patterns for folder in self.folders for file in _matching(folder, pattern)})


def _matching(folder: Path, pattern: str) -> list[Path]:
    return sorted(file for file in folder.glob(pattern) if not file.name.startswith("."))


def read_text_lines(file: Path) -> list[str]:
    """The lines of a text file, stripped, blank ones included. Raises ManifestError for what is no UTF-8 text."""
    try:
        text = read_text(file, max_bytes=_MAX_BYTES)
    except (OSError, ValueError) as error:
        raise ManifestError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if "\0" in text:
        raise ManifestError(f"{file} is not text: it has NUL bytes; save it as UTF-8 text")
    return [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def read_lines(file: Path) -> list[str]:
    """The lines of a text file that are not blank, stripped. Raises ManifestError for what is no UTF-8 text."""
    return [line for line in read_text_lines(file) if line]


@contextmanager
def as_published(file: Path) -> Iterator[None]:
    """Raise ManifestError, naming an annotation file, where its content in the block is not as it is published."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
        reason = " ".join(str(error).split())[:100]
        raise ManifestError(f"{file} is not in the form in which it is published ({reason}); fetch it again") from error


def read_table(file: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """The rows of a CSV file without a header, whose first columns are called `columns`.

    Raises ManifestError, naming the line, for one that has fewer.
    """
    with as_published(file):
        for number, fields in enumerate(csv.reader(read_lines(file)), start=1):
            if len(fields) < len(columns):
                text = shown(",".join(fields))
                raise ManifestError(f"{file}:{number}: '{text}' has no {columns[len(fields)]}; fetch it again")
            yield dict(zip(columns, fields, strict=False))
