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
from cover.cli.app import app
from cover.cli.process import run


def main() -> None:
    """Run the command line; a CoverError is one line and exit code 2."""
    run(app)
