"""What can go wrong for a user. Every message is one line: the value, the rule, the remedy.

The command line prints the message and exits with code 2; anything that is not a CoverError is a bug and keeps its
traceback.
"""

from __future__ import annotations


class CoverError(Exception):
    """A mistake or a fault that the user can mend."""


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
