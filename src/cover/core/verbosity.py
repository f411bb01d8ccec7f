"""How much a command says: -v and -q of the command line."""

from __future__ import annotations

import logging
from enum import Enum


class Verbosity(Enum):
    """How much is shown; the value is the lowest level of log messages."""

    QUIET = logging.ERROR
    NORMAL = logging.WARNING
    VERBOSE = logging.INFO


_verbosity = Verbosity.NORMAL


def verbosity() -> Verbosity:
    """Return how much this process shows."""
    return _verbosity


def set_verbosity(chosen: Verbosity) -> None:
    """Choose how much this process shows.

    Args:
        chosen: QUIET shows only results and errors, VERBOSE also information of the log.
    """
    global _verbosity
    _verbosity = chosen
    logging.getLogger().setLevel(chosen.value)
    if logging.lastResort:  # prints the messages of processes that have not set up logging
        logging.lastResort.setLevel(chosen.value)
