"""Files that answers are written to: their format goes by the suffix."""

from __future__ import annotations

from collections.abc import Mapping
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
