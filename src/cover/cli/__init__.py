"""The command line: one function a command. Everything heavy is imported inside, so that --help answers at once."""

from __future__ import annotations

from cover.cli import (  # noqa: F401  (importing adds their commands)
    data,
    demo,
    explain,
    features,
    inference,
    preparation,
    serve,
    study,
    training,
    use,
)
from cover.cli.app import main

__all__ = ["main"]
