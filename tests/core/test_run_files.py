"""Which checkpoint a path stands for; and no other module knows the names of a run's files."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cover
from cover.core.run_files import find_checkpoint
from cover.errors import CheckpointError


def save(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").touch()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    save(tmp_path / "checkpoints" / "step-2")
    save(tmp_path / "elsewhere")
    return tmp_path


def test_a_run_is_its_best_checkpoint_or_its_latest(run: Path) -> None:
    (run / "latest").write_text("step-2\n")
    assert find_checkpoint(run) == run / "checkpoints" / "step-2"
    save(run / "checkpoints" / "step-1")
    (run / "best").write_text("step-1\n")
    assert find_checkpoint(run) == run / "checkpoints" / "step-1"


@pytest.mark.parametrize(
    "content", ["", ".", "..", "../elsewhere", "/etc", "step-3", "step-2/../step-2", "step-2\0", "x" * 300, "x" * 10**6]
)
def test_a_pointer_names_a_checkpoint_of_its_run_only(content: str, run: Path) -> None:
    (run / "best").write_text(content)
    with pytest.raises(
        CheckpointError, match=r"best does not name a checkpoint \(.*\); write the name of one"
    ) as caught:
        find_checkpoint(run)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("make", "what"), [(os.mkfifo, "it is a pipe, not a file"), (os.mkdir, "it is a folder, not a file")]
)
def test_a_pointer_that_is_no_file_is_named(make: Callable[[Path], None], what: str, run: Path) -> None:
    make(run / "latest")
    with pytest.raises(CheckpointError, match=rf"latest does not name a checkpoint \({what}\)"):
        find_checkpoint(run)


NAMES = re.compile(
    r"\b(recipe\.toml|manifests\.json|train\.lock|mixture\.json|metrics\.jsonl|(model|training)\.safetensors|state\.json)"
    r"|^(config\.json|latest|best|checkpoints|evaluation|\.features)$|\bstep-$"
)


def texts_of(file: Path) -> Iterator[str]:
    """The strings in a module, those in f-strings included, without docstrings."""
    tree = ast.parse(file.read_text())
    documentation = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation:
            yield node.value


def test_no_other_module_knows_the_names_of_a_runs_files() -> None:
    source = Path(cover.__file__).parent
    found = {
        (file.relative_to(source).as_posix(), text)
        for file in source.rglob("*.py")
        for text in texts_of(file)
        if NAMES.search(text)
    }
    assert {file for file, _ in found} == {"core/run_files.py"}, found
    assert len(found) >= 14
