"""Files appear complete or not at all, and one line says why one cannot be written."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.processes import full_disk

from cover.core.atomic_files import append_line, fill_once, locked, whole_file, whole_folder, write_whole
from cover.errors import CoverError


def write_text(path: Path) -> None:
    path.write_text("x" * 5000)


def write_tensors(path: Path) -> None:
    save_file({"a": torch.zeros(5000)}, path)


def write_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(5000))


@pytest.mark.parametrize("write", [write_text, write_tensors, write_array])
def test_on_a_full_disk_the_file_stays_as_it_was(tmp_path: Path, write: Callable[[Path], None]) -> None:
    file = tmp_path / "out"
    file.write_text("before")
    with full_disk(1000), pytest.raises(CoverError) as caught, whole_file(file) as unfinished:
        write(unfinished)
    message = str(caught.value)
    assert message.startswith(f"{file} cannot be written (") and message.endswith("); name another place")
    assert "\n" not in message and file.read_text() == "before" and os.listdir(tmp_path) == ["out"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_disk_is_named_with_its_remedy() -> None:
    with pytest.raises(CoverError) as caught:
        append_line(Path("/dev/full"), "{}", "then do it again")
    assert str(caught.value) == (
        "/dev/full cannot be written (No space left on device; make room on that disk); then do it again"
    )


def test_a_line_is_added_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "made" / "lines.jsonl"
    append_line(file, "first")
    with full_disk(10), pytest.raises(CoverError, match=r"lines.jsonl cannot be written"):
        append_line(file, "second")
    assert file.read_text() == "first\n"
    append_line(file, "thïrd")
    assert file.read_text() == "first\nthïrd\n"


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    longest = tmp_path / ("ü" * 127 + "x")
    write_whole(longest, "whole")
    assert longest.read_text() == "whole"
    with pytest.raises(CoverError, match=r"x+ cannot be written \(File name too long\); name another place"):
        write_whole(tmp_path / ("x" * 256), "")


def test_two_writers_of_names_that_begin_alike_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in two containers, whose processes may have the same number."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    first, second = (tmp_path / ("x" * 60 + name) for name in "ab")
    with whole_file(first) as one, whole_file(second) as other, whole_file(second) as again:
        assert len({one, other, again}) == 3
        for unfinished in (one, other, again):
            unfinished.write_text(first.name if unfinished == one else second.name)
    with whole_folder(tmp_path / ("y" * 60 + "a")) as one, whole_folder(tmp_path / ("y" * 60 + "b")) as other:
        (one / "file").touch()
        (other / "other").touch()
    assert (first.read_text(), second.read_text()) == (first.name, second.name)
    assert os.listdir(tmp_path / ("y" * 60 + "a")) == ["file"]


def test_an_error_of_another_file_is_not_taken_for_one_of_writing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "out"):
        (tmp_path / "input").read_text()
    with pytest.raises(TimeoutError), whole_folder(tmp_path / "out"):
        raise TimeoutError
    assert not os.listdir(tmp_path)


def test_what_a_link_leads_to_is_replaced_and_not_the_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to("there/file")
    write_whole(link, "new")
    assert link.is_symlink() and (tmp_path / "there/file").read_text() == "new"
    assert os.listdir(tmp_path / "there") == ["file"]


@pytest.mark.parametrize(("kind", "said"), [("folder", "it is a folder"), ("pipe", "it is a device or a pipe")])
def test_only_a_file_is_replaced(tmp_path: Path, kind: str, said: str) -> None:
    path = tmp_path / "out"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(CoverError, match=f"out cannot be written \\({said}\\); name another place"):
        write_whole(path, "")
    assert stat.S_ISDIR(path.stat().st_mode) == (kind == "folder")
    for root in ("/", "/dev/null"):
        with pytest.raises(CoverError, match=f"^{root} cannot be written"):
            write_whole(Path(root), "")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for write in (write_whole, append_line):
        with pytest.raises(CoverError, match=r"file/new/out cannot be written \(Not a directory\)"):
            write(tmp_path / "file/new/out", "")
    with pytest.raises(CoverError, match=r"file/new cannot be written"), whole_folder(tmp_path / "file/new"):
        pass
    with pytest.raises(CoverError, match=r"file/lock cannot be written"), locked(tmp_path / "file/lock", "it"):
        pass


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "folder"
    with pytest.raises(ZeroDivisionError), whole_folder(folder) as unfinished:
        (unfinished / "file").touch()
        raise ZeroDivisionError
    assert not os.listdir(folder.parent)
    with pytest.raises(CoverError, match=r"folder cannot be written \(Input/output error\); try another disk"):
        fill_once(folder, fails, waiting_for="nobody", remedy="try another disk")
    fill_once(folder, lambda unfinished: (unfinished / "file").touch(), waiting_for="nobody")
    fill_once(folder, fails, waiting_for="nobody")
    assert os.listdir(folder) == ["file"] and sorted(os.listdir(folder.parent)) == ["folder", "folder.lock"]


def fails(_: Path) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_what_is_printed_meanwhile_is_not_the_files_fault(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), whole_file(tmp_path / "out"):
        raise BrokenPipeError
