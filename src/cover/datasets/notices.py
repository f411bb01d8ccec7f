"""Warnings of indexing: one line for each kind, with a count and a few examples."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from cover.errors import escaped

logger = logging.getLogger(__name__)

_NUM_EXAMPLES = 3
_MAX_LENGTH = 100


def shown(text: str) -> str:
    """Return a name as one printable line of limited length. Line breaks and bytes that are not UTF-8 are escaped."""
    line = escaped(text)
    return line if len(line) <= _MAX_LENGTH else f"{line[:60]}...{line[-37:]}"


def examples(names: Iterable[str]) -> str:
    """Return the first few of some names, separated by commas."""
    return ", ".join(shown(name) for name in islice(names, _NUM_EXAMPLES))


def is_utf8(name: str) -> bool:
    """Whether a name from the file system is text that a manifest can contain."""
    try:
        return name.isascii() or bool(name.encode())
    except UnicodeEncodeError:
        return False


class Notices:
    """What indexing leaves out or finds odd: kind → how often, and a few examples."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._examples: dict[str, list[str]] = {}

    def add(self, what: str, example: str) -> None:
        """Count one more.

        Args:
            what: The kind, as it reads after a number, such as "links that lead nowhere are left out".
            example: The path.
        """
        self._counts[what] += 1
        kept = self._examples.setdefault(what, [])
        if len(kept) < _NUM_EXAMPLES:
            kept.append(example)

    def warn(self, root: Path) -> None:
        """Write a line for each kind to the log.

        Args:
            root: The folder of the dataset.
        """
        for what, count in self._counts.items():
            logger.warning(
                "%s: %s %s, such as %s", shown(str(root)), f"{count:,}", what, examples(self._examples[what])
            )

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {what}" for what, count in self._counts.items())
