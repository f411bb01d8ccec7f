"""Where the annotation files of a dataset lie: lists of its samples, splits and classes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from cover.errors import ManifestError


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
        found = (file for pattern in patterns for folder in self.folders for file in sorted(folder.glob(pattern)))
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
        return sorted({file for pattern in patterns for folder in self.folders for file in folder.glob(pattern)})


def read_lines(file: Path) -> list[str]:
    """The lines of a text file that are not blank, stripped. Raises ManifestError when it is not UTF-8."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise ManifestError(f"{file} is not UTF-8 text; save it as such") from None
    return [line for line in lines if line]


def read_table(file: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """The rows of a CSV file without a header, whose first columns are called `columns`.

    Raises ManifestError, naming the line, for one that has fewer.
    """
    for number, fields in enumerate(csv.reader(read_lines(file)), start=1):
        if len(fields) < len(columns):
            raise ManifestError(f"{file}:{number}: {','.join(fields)!r} has no {columns[len(fields)]}; fetch it anew")
        yield dict(zip(columns, fields, strict=False))
