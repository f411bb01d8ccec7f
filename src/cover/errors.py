"""Errors that a user can fix. Every message is one line: the value, the rule, the remedy.

The command line prints the message and exits with code 2. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path


class CoverError(Exception):
    """An error that the user can fix. Its message is one line, whatever characters the names in it contain."""

    def __str__(self) -> str:
        return escaped(super().__str__())


class RecipeError(CoverError):
    """A recipe that cannot be run: an unknown key, a wrong type or an impossible value."""


class ManifestError(CoverError):
    """A dataset that cannot be indexed, or a manifest that cannot be read."""


class OtherClassesError(ManifestError):
    """Manifests that would be replaced have other classes.

    Args:
        message: One line.
        files: These manifests.
    """

    def __init__(self, message: str, files: tuple[Path, ...]) -> None:
        super().__init__(message)
        self.files = files


class DecodeError(CoverError):
    """A media file that cannot be decoded.

    Args:
        message: One line, with the name of the file.
        reason: The cause without the name of the file, so that files can be counted by cause; `message` by default.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or message


class CheckpointError(CoverError):
    """A run or checkpoint that cannot be loaded or does not fit."""


class TrainingError(CoverError):
    """A run whose numbers have become useless."""


def escaped(text: str) -> str:
    """Return the text as one line that is safe to print.

    Characters that do not print, and bytes that are not UTF-8, become `\\n`, `\\x1b` and so on. A name from elsewhere
    therefore cannot move the cursor or start a new line.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in printable(text))


def printable(name: str | Path) -> str:
    """Return a file name as text that can be written anywhere; bytes that are not UTF-8 become `\\xe9` and so on."""
    return str(name).encode(errors="surrogateescape").decode(errors="backslashreplace")


def system_reason(error: BaseException) -> str:
    """Return what the operating system says is wrong, as one line, with a remedy if there is an obvious one."""
    number: int = getattr(error, "errno", None) or 0
    if in_rust := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors puts the number into its message
        number = int(in_rust[1])
    reason = os.strerror(number) if number in errno.errorcode else str(error) or type(error).__name__
    remedy = _REMEDIES.get(number, "")
    return " ".join(reason.split()) + (remedy and f"; {remedy}")


_REMEDIES = {
    errno.EMFILE: "raise the limit of open files, for example with `ulimit -n 4096`",
    errno.ENFILE: "the whole machine has too many files open; close some programs",
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room within your quota",
}
