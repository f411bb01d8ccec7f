"""What all commands have in common: their help, and how much they say."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import typer
from tests.terminal import Cover, terminal

from cover.cli.app import app
from cover.cli.process import GROUPS
from cover.core.progress import Terminal, progress_bar
from cover.core.verbosity import Verbosity, set_verbosity


@pytest.fixture
def cover(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cover]:
    monkeypatch.setenv("COLUMNS", "80")
    yield terminal(capsys, monkeypatch)
    set_verbosity(Verbosity.NORMAL)


def paths_of(group: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*above, name)
        if hasattr(command, "commands"):
            yield from paths_of(command, (*above, name))


COMMANDS: Any = typer.main.get_command(app)
ALL_COMMANDS = list(paths_of(COMMANDS))


def test_every_command_is_listed_once_in_its_group(cover: Cover) -> None:
    listed = cover("-h").out
    top = [path[0] for path in ALL_COMMANDS if len(path) == 1]
    assert sorted(top) == sorted(name for names in GROUPS.values() for name in names)
    places = [listed.index(f"\n{group}:\n") for group in GROUPS]
    assert places == sorted(places) and listed.index("\n  index ") < listed.index("\n  train ")
    assert all(listed.count(f"\n  {name} ") == 1 for name in top)


def test_help_reads_at_80_columns_and_has_the_common_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for path in ALL_COMMANDS:
        COMMANDS.main([*path, "-h"], prog_name="cover", standalone_mode=False)
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines())) <= 80, path
        assert ("-q, --quiet" in shown) == ("COMMAND [ARGS]" not in shown), path


def test_the_version_and_completion_are_offered(cover: Cover) -> None:
    assert cover("--version").out.startswith("cover 0.")
    environment = {"_COVER_COMPLETE": "complete_bash", "COMP_WORDS": "cover tr", "COMP_CWORD": "1"}
    program = "import sys; sys.argv[0] = 'cover'; from cover.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | environment, capture_output=True, text=True)
    assert done.stdout.split() == ["train"]


@pytest.mark.parametrize(
    ("option", "level", "shows_traceback"),
    [(None, logging.WARNING, False), ("-q", logging.ERROR, False), ("-v", logging.INFO, True)],
)
def test_a_command_says_as_much_as_it_is_asked_to(
    cover: Cover, option: str | None, level: int, shows_traceback: bool
) -> None:
    answer = cover("index", "csv", "absent.csv", "--kind=video", *([option] if option else []))
    assert answer.code == 2 and answer.err.splitlines()[-1].startswith("error: absent.csv does not exist")
    assert ("Traceback" in answer.err) == shows_traceback
    assert logging.getLogger("cover").getEffectiveLevel() == level


def test_quiet_hides_progress() -> None:
    shown = {}
    for chosen in (Verbosity.QUIET, Verbosity.NORMAL):
        set_verbosity(chosen)
        file = StringIO()
        with progress_bar("clips", Terminal(file, width=100)) as progress:
            progress.add_task("reading", total=3)
        shown[chosen] = file.getvalue()
    assert "reading" in shown[Verbosity.NORMAL] and not shown[Verbosity.QUIET]
