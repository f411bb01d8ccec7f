"""The commands of docs/tutorial.md run one after the other, as a reader gives them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.terminal import shell_commands, terminal

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()
SMALL = (
    *("--set", "model.image_size=32", "--set", "model.depth=1", "--set", "model.num_frames=2"),
    *("--set", "training.max_steps=2", "--set", "data.num_workers=0", "--set", "evaluation.num_crops=1"),
)
"""Options that make training and validation a matter of seconds."""


def commands() -> list[list[str]]:
    """The words of each command that the page shows, without installation."""
    return [line for line in shell_commands(PAGE) if line[:1] in (["cp"], ["cover"])]


@pytest.mark.slow
def test_the_commands_run_one_after_the_other(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    write_video: Callable[..., Path],
    write_image: Callable[..., Path],
) -> None:
    for number in range(10):
        place = Path("train", "run" if number % 2 else "jump", str(number))
        for name in ("freedoom_events", "freedoom_scenes"):
            file = tmp_path / "world" / name / place.with_suffix(".mp4")
            write_video(file, num_frames=6, first_number=10 * number)
        write_image(tmp_path / "world" / "freedoom_objects" / place.with_suffix(".jpg"), number)
    monkeypatch.chdir(tmp_path)
    cover = terminal(capsys, monkeypatch)
    for program, *arguments in commands():
        if program == "cp":
            subprocess.run([program, *arguments], check=True)
        elif arguments[0] != "world":  # tests/world
            files = [str(file) for word in arguments for file in (sorted(Path().glob(word)) if "*" in word else [word])]
            answer = cover(*files, *(SMALL if arguments[0] == "train" else ()))
            assert answer.code == 0, f"{arguments}: {answer.err}"
    assert {"clips.toml", "all.toml", "report.html"} <= {path.name for path in tmp_path.iterdir()}
