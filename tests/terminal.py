"""Commands as a user gives them, without starting another Python, and what they print."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import RenderableType

from cover import cli
from cover.core.progress import Terminal


class Answer(NamedTuple):
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


def printed(shown: RenderableType, width: int = 100) -> str:
    """What a table or a line looks like on the terminal."""
    file = StringIO()
    Terminal(file, width=width).print(shown)
    return file.getvalue()


def shell_commands(page: str) -> list[list[str]]:
    """The words of each line of the shell blocks of a page in Markdown, without comments."""
    blocks = "".join(re.findall(r"```bash\n(.*?)```", page, re.DOTALL)).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in blocks.splitlines()]


Cover = Callable[..., Answer]


def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cover:
    """cover("train", "r.toml") does what the command does."""

    def cover(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["cover", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        code = stopped.value.code
        assert isinstance(code, int)
        return Answer(code, *capsys.readouterr())

    return cover
