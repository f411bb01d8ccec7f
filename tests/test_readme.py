"""What the README shows must run as it stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cover.datasets.layouts.folder import index_folder

README = Path(__file__).parents[1] / "README.md"


def python_example() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    return block


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
    exec(compile(python_example(), str(README), "exec"), {})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [step for step, _ in lines] == ["0", "1"]
    assert all(float(loss) > 0 for _, loss in lines)


def test_the_training_loop_is_short() -> None:
    assert len([line for line in python_example().splitlines() if line.strip()]) <= 24
