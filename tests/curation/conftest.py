"""A dataset in which some files are broken, each in its own way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest

BROKEN = {
    "jump/cut.mp4": "Invalid data found when processing input",
    "jump/empty.mp4": "it is empty",
    "run/gone.mp4": "no such file",
}


@pytest.fixture
def broken() -> dict[str, str]:
    """sample_id → the reason why it is unreadable."""
    return dict(BROKEN)


@pytest.fixture
def broken_manifest(tmp_path: Path, write_video: Callable[..., Path]) -> Manifest:
    """Eight good videos of 20 to 27 frames in jump/ and run/, and those of BROKEN."""
    return _index(_write_clips(tmp_path / "clips", write_video))


@pytest.fixture
def hanging_manifest(tmp_path: Path, broken: dict[str, str], write_video: Callable[..., Path]) -> Manifest:
    """The same, a pipe, and at the end a file that takes several times 2 s, the limit of `broken`."""
    root = _write_clips(tmp_path / "clips", write_video)
    (root / "run/pipe.mp4").touch()
    _write_slow(root / "run/slow.mp4")
    manifest = _index(root)
    (root / "run/pipe.mp4").unlink()
    os.mkfifo(root / "run/pipe.mp4")  # indexing would skip it
    broken["run/pipe.mp4"], broken["run/slow.mp4"] = "it is a pipe, not a file", "timed out after 2 s"
    return manifest


def _write_slow(path: Path, num_frames: int = 100, side_px: int = 4096) -> None:
    """Y4M of black frames that take no space on the disk, and 0.1 s each to decode."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{side_px} H{side_px} F25:1 C420jpeg\n".encode())
        for _ in range(num_frames):
            file.write(b"FRAME\n")
            file.seek(side_px * side_px * 3 // 2, 1)
        file.truncate()


def _write_clips(root: Path, write_video: Callable[..., Path]) -> Path:
    for index in range(8):
        write_video(root / ("jump" if index % 2 else "run") / f"{index}.mp4", num_frames=20 + index)
    (root / "jump/cut.mp4").write_bytes((root / "jump/1.mp4").read_bytes()[:700])
    (root / "jump/empty.mp4").touch()
    (root / "run/gone.mp4").touch()
    return root


def _index(root: Path) -> Manifest:
    manifest = index_folder(root, kind="video", out=root.parent)[0]
    (root / "run/gone.mp4").unlink()
    return manifest
