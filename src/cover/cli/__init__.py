"""The command line: one function a command. Heavy imports are inside the functions, so that --help answers at once."""

from __future__ import annotations

from cover.cli import (  # noqa: F401  (importing adds their commands)
    check_pack,
    demo_world,
    embed_search,
    evaluate_compare,
    index,
    info_export,
    init_doctor,
    predict_explain,
    serve,
    timeline_watch,
    train_study,
)
from cover.cli.app import app
from cover.cli.process import run


def main() -> None:
    """Run the command line. A CoverError prints one line and exits with code 2."""
    run(app)
