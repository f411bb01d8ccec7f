from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from cover.errors import CoverError
from cover.inference.inputs import Inputs


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with media and other things in it, and the present one."""
    for name in ("a/2.mp4", "a/1.JPG", "a/notes.txt", "a/.hidden.mp4", "a/.git/x.png", "a/deep/3.webm", "b/4.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*names: str, frame_folders: bool = False) -> list[str]:
    return [str(path) for path in Inputs(names, frame_folders)]


@pytest.mark.usefixtures("here")
def test_files_folders_and_patterns() -> None:
    assert found("b/4.mp4", "a") == ["b/4.mp4", "a/1.JPG", "a/2.mp4", "a/deep/3.webm"]
    assert found("*/*.mp4") == ["a/2.mp4", "b/4.mp4"]
    assert found("**/*.webm") == ["a/deep/3.webm"]
    assert found("a/notes.txt") == ["a/notes.txt"]
    assert Inputs(["a", "b"]).count() == 4


def test_lists_are_taken_as_they_stand(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "list.txt").write_text("b/4.mp4\n\nabsent.mp4\na/deep\n")
    assert found("@list.txt") == ["b/4.mp4", "absent.mp4", "a/deep/3.webm"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("absent.mp4\nb/4.mp4"))
    assert Inputs(["-", "a"]).count() is None
    assert found("a/2.mp4", "-") == ["a/2.mp4", "absent.mp4", "b/4.mp4"]


def test_lists_of_windows_are_read(here: Path) -> None:
    (here / "list.txt").write_bytes(b"\xef\xbb\xbfb/4.mp4\r\n\r\na/2.mp4\r\n")
    assert found("@list.txt") == ["b/4.mp4", "a/2.mp4"]


def test_thumbnails_are_left_out_and_links_do_not_lead_in_circles(here: Path) -> None:
    for name in ("a/._1.JPG", "a/@eaDir/1.JPG/SYNOPHOTO_THUMB_M.jpg", "a/Thumbs.db"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).touch()
    (here / "a/deep/up").symlink_to(here / "a")
    (here / "a/other").symlink_to(here / "b")
    (here / "b/back").symlink_to(here / "a")
    assert found("a") == ["a/1.JPG", "a/2.mp4", "a/deep/3.webm", "a/other/4.mp4"]


def test_a_name_with_the_signs_of_a_pattern_is_a_file_if_there_is_one(here: Path) -> None:
    for name in ("c[1].mp4", "c1.mp4"):
        (here / name).touch()
    assert found("c[1].mp4") == ["c[1].mp4"]


def test_a_folder_of_images_is_many_or_one(here: Path) -> None:
    for number in range(3):
        (here / f"a/deep/img_{number:05}.jpg").touch()
    assert len(found("a/deep")) == 4
    assert found("a/deep", frame_folders=True) == ["a/deep", "a/deep/3.webm"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.mp4", "absent.mp4 is not a file or a folder; "),
        ("*.mkv", "*.mkv is not a file or a folder; correct the path, or give a pattern that matches files"),
        ("empty", "empty holds no videos or images; "),
        ("@absent.txt", "@absent.txt cannot be read "),
        ("@binary", "@binary cannot be read "),
    ],
)
def test_names_of_nothing(here: Path, name: str, message: str) -> None:
    (here / "empty").mkdir()
    (here / "binary").write_bytes(b"\xff\xfe\x00")
    for names in ([name], ["a", name, "-"]):
        with pytest.raises(CoverError) as caught:
            Inputs(names).count()
        assert str(caught.value).startswith(message)
