"""Files that answers are written to: their format goes by the suffix, and they appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from cover.errors import CoverError

Format = TypeVar("Format")


def for_suffix(path: Path, formats: Mapping[str, Format]) -> Format:
    """The format of `path`. Raises CoverError for another suffix."""
    try:
        return formats[path.suffix.lower()]
    except KeyError:
        known = ", ".join(formats)
        raise CoverError(f"{path} has none of the suffixes {known}, which name the format; add one") from None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which becomes `path` when the block ends well, and is deleted if not.

    Raises CoverError where no file can be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
    except OSError as error:
        raise CoverError(f"{path} cannot be written ({error.strerror}); name another place") from error
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
