from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pytest
from rich.table import Table

import cover
from cover.core.progress import Terminal, progress_bar
from cover.errors import CoverError

PROGRAM = """
from cover.core.progress import track
for number in track(range(3), "counting"):
    print(number)
"""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no terminals to make")
def test_what_is_printed_beside_a_bar_goes_where_it_should() -> None:
    terminal, its_end = os.openpty()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=its_end, text=True, check=True
    )
    os.close(its_end)
    assert done.stdout == "0\n1\n2\n"
    shown = b""
    with suppress(OSError):  # Linux raises an error at the end of a closed terminal's output
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    assert b"counting" in shown


ODD_NAMES = ("Pulling [something] from left", "a [/b] c", "[red]x", "100 % [/]", ":smile:", "[link=x]y", "1.5 'a' /p/q")


def test_names_are_shown_as_they_are() -> None:
    file = StringIO()
    terminal = Terminal(file)
    table = Table(*ODD_NAMES, title=ODD_NAMES[0])
    table.add_row(*ODD_NAMES)
    terminal.print(table)
    with progress_bar("steps", terminal) as progress:
        for name in ODD_NAMES:
            terminal.print(name, soft_wrap=True)
            progress.add_task(name, total=1)
    shown = file.getvalue()
    assert all(name in shown for name in ODD_NAMES) and "\x1b" not in shown


def test_one_place_makes_consoles_and_nothing_is_markup() -> None:
    for file in Path(cover.__file__).parent.rglob("*.py"):
        text = file.read_text()
        assert "rich.markup" not in text, file
        assert not re.search(r"\bConsole\(", text) or file.name == "progress.py", file


@pytest.mark.parametrize(("columns", "width"), [("1", 40), ("40", 40), ("120", 120), ("nan", 80)])
def test_a_narrow_terminal_leaves_tables_readable(monkeypatch: pytest.MonkeyPatch, columns: str, width: int) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    assert Terminal(StringIO()).width == width
    monkeypatch.delenv("FORCE_COLOR")
    assert Terminal(StringIO()).width == 100


def test_a_closed_pipe_is_left_to_the_command_line() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), os.fdopen(writer, "w") as file:
        Terminal(file).print("x")


def test_no_name_acts_on_the_terminal_or_leaves_its_line() -> None:
    file = StringIO()
    terminal = Terminal(file)
    name, shown = "\x1b[31mred\nnew\u202eline \udce9.mp4", r"\x1b[31mred\nnew\u202eline \xe9.mp4"
    terminal.print(name, soft_wrap=True)
    table = Table(name, title=name)
    table.add_row(name)
    terminal.print(table)
    assert file.getvalue().count(shown) == 4 and "\x1b" not in file.getvalue()
    assert str(CoverError(f"{name} is missing")) == f"{shown} is missing"
