from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from cover.datasets.scan import Scan


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def scanned(root: Path, *, once: bool = True) -> tuple[list[str], str]:
    """Return the names of the videos, and what the scan left out."""
    found = Scan(root, "video", once=once)
    names = [place.name for place in found]
    return names, str(found.notices)


def test_links_that_loop_end_and_each_file_is_there_once(tmp_path: Path) -> None:
    root = make(tmp_path / "x", "run/a.mp4", "jump/b.mp4")
    for folder in ("run", "jump"):
        os.symlink("..", root / folder / "all")
        os.symlink("../..", root / folder / "higher")
    os.symlink("run", root / "again")
    os.symlink("../run/a.mp4", root / "jump/link.mp4")
    names, left_out = scanned(root)
    assert names == ["jump/b.mp4", "run/a.mp4"]
    assert left_out == "6 links to what is indexed elsewhere are left out"
    assert scanned(root, once=False)[0] == ["jump/b.mp4", "jump/link.mp4", "run/a.mp4"]


def test_links_to_what_lies_elsewhere_are_followed_once(tmp_path: Path) -> None:
    root = make(tmp_path / "x", ".annex/1.mp4", "blobs/2")
    make(tmp_path / "outside", "c.mp4", "deeper/d.mp4")
    os.symlink(tmp_path / "outside", root / "swim")
    os.symlink(tmp_path / "outside/deeper", root / "dive")
    os.symlink(tmp_path / "outside", root / "walk")
    os.symlink("../../x", tmp_path / "outside/deeper/back")
    for number, target in enumerate(("../.annex/1.mp4", "../.annex/1.mp4", "../blobs/2")):
        (root / "run").mkdir(exist_ok=True)
        os.symlink(target, root / f"run/{number}.mp4")
    names, left_out = scanned(root)
    assert names == ["dive/d.mp4", "run/0.mp4", "run/2.mp4", "swim/c.mp4"]
    assert left_out == (
        "3 links to what is indexed elsewhere are left out, 1 folders that are indexed under another name are left out"
    )


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    root = make(tmp_path / "x", "run/a.mp4", "run/b.mp4/c.mp4")
    os.symlink("nowhere.mp4", root / "run/gone.mp4")
    os.symlink("self.mp4", root / "run/self.mp4")
    os.symlink("nowhere.tar", root / "gone.tar")
    os.mkfifo(root / "run/pipe.mp4")
    os.mkfifo(root / "pipe.tar")
    names, left_out = scanned(root)
    assert names == ["run/a.mp4", "run/b.mp4/c.mp4"]
    assert "3 links that lead nowhere are left out" in left_out
    assert "2 pipes, sockets or devices are left out" in left_out


def test_a_name_that_is_not_utf_8_is_left_out_and_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make(tmp_path / "x", "run/a.mp4", os.fsdecode(b"run/caf\xe9.mp4"), os.fsdecode(b"s\xfcd/b.mp4"))
    found = Scan(root, "video")
    assert [place.name for place in found] == ["run/a.mp4"]
    with caplog.at_level(logging.WARNING):
        found.notices.warn(root)
    (message,) = caplog.messages
    assert "x: 2 files or folders with names that are not UTF-8 are left out, such as " in message
    assert "run/caf\\xe9.mp4" in message and "s\\xfcd" in message


def test_what_systems_add_is_left_out(tmp_path: Path) -> None:
    root = make(
        tmp_path / "x",
        "run/a.mp4",
        "run/._a.mp4",
        "run/Thumbs.db",
        "run/@eaDir/a.mp4/SYNOVIDEO_VIDEO_SCREENSHOT.jpg",
        "run/.ipynb_checkpoints/a-checkpoint.mp4",
        "__MACOSX/run/b.mp4",
        "lost+found/c.mp4",
        "#recycle/d.mp4",
        "Network Trash Folder/e.mp4",
        "Temporary Items/f.mp4",
        ".TemporaryItems/g.mp4",
        "$RECYCLE.BIN/h.mp4",
        "System Volume Information/i.mp4",
    )
    names, left_out = scanned(root)
    assert names == ["run/a.mp4"]
    assert left_out == "8 folders of the operating system or a storage device are left out"


def test_a_folder_of_frames_may_have_thumbnails(tmp_path: Path) -> None:
    root = make(tmp_path / "x", "run/a/img_1.jpg", "run/a/img_2.jpg", "run/a/thumbnails/1.jpg", "run/b/c/1.jpg")
    assert [(place.name, place.num_frames) for place in Scan(root, "video")] == [("run/a", 2), ("run/b/c", 1)]
