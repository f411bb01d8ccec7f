"""A dataset in which some files are broken, each in its own way."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from cover.catalog.folder import index_folder
from cover.catalog.manifest import Manifest

BROKEN = {
    "jump/cut.mp4": "Invalid data found when processing input",
    "jump/empty.mp4": "Invalid data found when processing input",
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
    """The same, a pipe, and at its end a file that takes several times 2 s, which is the limit of `broken`."""
    root = _write_clips(tmp_path / "clips", write_video)
    os.mkfifo(root / "run/pipe.mp4")
    _write_slow(root / "run/slow.mp4")
    broken["run/pipe.mp4"], broken["run/slow.mp4"] = "it is a pipe, not a file", "timed out after 2 s"
    return _index(root)


def _write_slow(path: Path, num_frames: int = 8000, side_px: int = 2000) -> None:
    """A GIF of 180 kB: each frame changes one pixel, and costs as much as all of the canvas."""
    palette, one_pixel = bytes(3) + b"\xff" * 3, b"\x02\x02\x44\x01\x00"
    frame = b"\x21\xf9\x04\x04\x04\x00\x00\x00\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + one_pixel
    header = b"GIF89a" + struct.pack("<HHBBB", side_px, side_px, 0x80, 0, 0) + palette
    path.write_bytes(header + frame * num_frames + b";")


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
