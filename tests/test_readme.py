"""What the README shows must run as it stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.terminal import shell_commands, terminal

from cover.datasets.layouts.class_folders import index_folder

README = (Path(__file__).parents[1] / "README.md").read_text()
SMALL = (
    *("--set", "model.image_size=32", "--set", "model.depth=1", "--set", "model.num_frames=2"),
    *("--set", "training.max_steps=1", "--set", "data.num_workers=0"),
)
"""Options that make the README's training a matter of seconds."""


def python_example() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return str(block)


def commands() -> list[list[str]]:
    """The arguments of each `cover` command that the README shows."""
    return [line[1:] for line in shell_commands(README) if line[:1] == ["cover"]]


def test_the_commands_run_one_after_the_other(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    write_video: Callable[..., Path],
    write_image: Callable[..., Path],
) -> None:
    for number in range(6):
        label = "run" if number % 2 else "jump"
        write_video(tmp_path / "clips" / ("val" if number > 3 else "train") / label / f"{number}.mp4", num_frames=10)
    for file in ("new.mp4", "match.mp4"):
        write_video(tmp_path / file, num_frames=10)
    write_image(tmp_path / "photo.jpg")
    (recipe,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "clips.toml").write_text(recipe)
    monkeypatch.chdir(tmp_path)
    cover = terminal(capsys, monkeypatch)
    for arguments in commands():
        if arguments[0] == "serve":  # runs until Ctrl-C; tests/serving
            continue
        answer = cover(*arguments, *(SMALL if arguments[0] == "train" else ()))
        assert answer.code == 0, f"{arguments}: {answer.err}"
    assert {"match.srt", "why", "features.parquet", "exported"} <= {path.name for path in tmp_path.iterdir()}


def test_the_training_loop_trains(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    write_video: Callable[..., Path],
    write_image: Callable[..., Path],
) -> None:
    for number in range(6):
        write_video(tmp_path / "k400" / ("run" if number % 2 else "jump") / f"{number}.mp4", num_frames=10)
    for number in range(10):
        write_image(tmp_path / "imagenet" / ("cat" if number % 2 else "dog") / f"{number}.png", number)
    index_folder(tmp_path / "k400", kind="video", out=tmp_path / "manifests")
    index_folder(tmp_path / "imagenet", kind="image", out=tmp_path / "manifests")
    monkeypatch.chdir(tmp_path)
    exec(compile(python_example(), "README.md", "exec"), {})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [step for step, _ in lines] == ["0", "1"]
    assert all(float(loss) > 0 for _, loss in lines)


def test_the_training_loop_is_short() -> None:
    assert len([line for line in python_example().splitlines() if line.strip()]) <= 24
