"""A dataset in which some files are broken, each in its own way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cover.catalog.folder import index_folder
from cover.catalog.manifest import Manifest

BROKEN = {
    "jump/cut.mp4": "Invalid data found when processing input",
    "jump/empty.mp4": "Invalid data found when processing input",
    "run/gone.mp4": "no such file",
    "run/pipe.mp4": "timed out after 2 s",
}


@pytest.fixture
def broken_manifest(tmp_path: Path, write_video: Callable[..., Path]) -> Manifest:
    """Eight good videos of 20 to 27 frames in jump/ and run/, and those of BROKEN; opening a pipe blocks for ever."""
    root = tmp_path / "clips"
    for index in range(8):
        write_video(root / ("jump" if index % 2 else "run") / f"{index}.mp4", num_frames=20 + index)
    (root / "jump/cut.mp4").write_bytes((root / "jump/1.mp4").read_bytes()[:700])
    (root / "jump/empty.mp4").touch()
    (root / "run/gone.mp4").touch()
    os.mkfifo(root / "run/pipe.mp4")
    manifest = index_folder(root, kind="video", out=tmp_path)[0]
    (root / "run/gone.mp4").unlink()
    return manifest


@pytest.fixture
def broken() -> dict[str, str]:
    """sample_id → the reason why it is unreadable."""
    return BROKEN
