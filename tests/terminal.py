"""Commands as a user gives them, without starting another Python."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from cover import cli


class Answer(NamedTuple):
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


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
