"""What can go wrong for a user. Every message is one line: the value, the rule, the remedy.

The command line prints the message and exits with code 2; anything that is not a CoverError is a bug and keeps its
traceback.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path


class CoverError(Exception):
    """A mistake or a fault that the user can fix. Its message is one line, whatever names it holds."""

    def __str__(self) -> str:
        return escaped(super().__str__())


class RecipeError(CoverError):
    """A recipe that cannot be run: unknown key, wrong type, impossible value."""


class ManifestError(CoverError):
    """A dataset that cannot be indexed or a manifest that cannot be read."""


class DecodeError(CoverError):
    """A media file that gives no frames.

    reason: why, without the name of the file, so that files can be counted by it.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or message


class CheckpointError(CoverError):
    """A run or checkpoint that cannot be loaded or does not fit."""


class TrainingError(CoverError):
    """A run whose numbers have become useless."""


def escaped(text: str) -> str:
    """The text on one line, safe to print: names from elsewhere move no cursor and stay on their line.

    Characters that do not print, and bytes that are not UTF-8, become \\n, \\x1b and the like.
    """
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in printable(text))


def printable(name: str | Path) -> str:
    """The name of a file as text that can be written anywhere: bytes that are not UTF-8 become \\xe9 and the like."""
    return str(name).encode(errors="surrogateescape").decode(errors="backslashreplace")


def system_reason(error: BaseException) -> str:
    """What the operating system says is wrong, in one line, with a remedy where there is an obvious one."""
    number: int = getattr(error, "errno", None) or 0
    if in_rust := re.search(r"\(os error (\d+)\)", str(error)):  # as safetensors says it
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
