from __future__ import annotations

import io
import logging
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest
from cover.datasets.notices import Notices
from cover.datasets.tars import tar_members
from cover.errors import ManifestError

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]


def tar_bytes(members: Mapping[str, bytes], format: int = tarfile.GNU_FORMAT) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=format) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


def read(root: Path, notices: Notices | None = None) -> dict[str, bytes]:
    """Name of each member → its content, read from its location."""
    content = (root / "x.tar").read_bytes()
    places = list(tar_members(root, "x.tar", "video", notices or Notices()))
    assert all(place.path == "x.tar" and place.offset is not None and place.length is not None for place in places)
    return {place.name: content[place.offset or 0 :][: place.length] for place in places}


def index(root: Path, kind: str = "video") -> Manifest:
    return index_folder(root, kind="image" if kind == "image" else "video", out=root.parent / "out")[0]


def labels(manifest: Manifest) -> dict[str, str]:
    return {row.sample_id: manifest.class_names[row.label] for row in manifest}


def test_hard_links_are_files_and_symbolic_ones_are_not(tmp_path: Path, put: Put, shown: Shown) -> None:
    put(tmp_path / "loose", {"run/a.mp4": 1, "run/b.mp4": 2})
    os.makedirs(tmp_path / "loose/jump")
    os.link(tmp_path / "loose/run/a.mp4", tmp_path / "loose/jump/same.mp4")
    os.symlink("../run/b.mp4", tmp_path / "loose/jump/link.mp4")
    (tmp_path / "x").mkdir()
    with tarfile.open(tmp_path / "x/all.tar", "w") as tar:
        tar.add(tmp_path / "loose/run", "run")
        tar.add(tmp_path / "loose/jump", "jump")
    manifest = index(tmp_path / "x")
    assert shown(manifest) == {"jump/same.mp4": 1, "run/a.mp4": 1, "run/b.mp4": 2}
    assert labels(manifest) == {"jump/same.mp4": "jump", "run/a.mp4": "run", "run/b.mp4": "run"}


def test_links_are_counted(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind in (("a.mp4", tarfile.LNKTYPE), ("b.mp4", tarfile.SYMTYPE), ("c.mp4", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "elsewhere.mp4"
            tar.addfile(member)
    notices = Notices()
    assert read(tmp_path, notices) == {}
    assert str(notices) == (
        "1 symbolic links, devices and links to labels in tars are left out, "
        "2 hard links in tars to what is not in them are left out"
    )


@pytest.mark.parametrize("padding", [0, 512, 10_240, 3_000_320])
def test_archives_joined_by_cat_are_read_to_the_end(tmp_path: Path, padding: int) -> None:
    first, second = tar_bytes({"run/a.mp4": b"1"}), tar_bytes({"jump/b.mp4": b"22", "jump/c.mp4": b"3"})
    (tmp_path / "x.tar").write_bytes(first + bytes(padding) + second)
    assert read(tmp_path) == {"run/a.mp4": b"1", "jump/b.mp4": b"22", "jump/c.mp4": b"3"}


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_names_in_other_scripts(tmp_path: Path, format: int) -> None:
    members = {f"run/{'n' * 200}.mp4": b"1", f"{'deep/' * 40}a.mp4": b"2", "r\u00fcn/\u8d70.mp4": b"3"}
    (tmp_path / "x.tar").write_bytes(tar_bytes(members, format))
    assert read(tmp_path) == members


def test_names_stay_below_the_folder_of_the_tar(tmp_path: Path) -> None:
    members = {"/run/a.mp4": b"1", "../jump/./b.mp4": b"2", "__MACOSX/run/._a.mp4": b"", ".cache/c.mp4": b""}
    (tmp_path / "x.tar").write_bytes(tar_bytes(members))
    assert read(tmp_path) == {"run/a.mp4": b"1", "jump/b.mp4": b"2"}


def test_sparse_members_are_left_out_and_what_follows_is_not(tmp_path: Path) -> None:
    member = tarfile.TarInfo("run/a.mp4")
    member.size, member.type = 512, tarfile.GNUTYPE_SPARSE
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[386 : 386 + 24] = b"00000000000\x0000000001000\x00"  # one piece: at 0, 512 bytes
    block[483 : 483 + 12] = b"00004000000\x00"  # of 1 MiB
    block[148:156] = b"%06o\x00 " % (sum(block[:148]) + 256 + sum(block[156:]))
    (tmp_path / "x.tar").write_bytes(bytes(block) + bytes(512) + tar_bytes({"run/b.mp4": b"2"}))
    notices = Notices()
    assert read(tmp_path, notices) == {"run/b.mp4": b"2"}
    assert str(notices) == "1 sparse members of tars are left out; unpack these tars"


@pytest.mark.parametrize("damage", [b"", b"\x80" + b"\xff" * 11, b"\x80" + b"\x7f" * 11])
def test_a_damaged_place_ends_a_tar(tmp_path: Path, damage: bytes) -> None:
    content = bytearray(tar_bytes({"run/a.mp4": b"1", "run/b.mp4": b"2", "run/c.mp4": b"3"}))
    content[1024 + 124 : 1024 + 124 + len(damage)] = damage  # the size of b
    content[1024] ^= not damage  # or its checksum
    if damage:
        content[1024 + 148 : 1024 + 156] = b"        "
        content[1024 + 148 : 1024 + 156] = b"%06o\x00 " % sum(content[1024 : 1024 + 512])
    (tmp_path / "x.tar").write_bytes(content)
    notices = Notices()
    assert read(tmp_path, notices) == {"run/a.mp4": b"1"}
    assert str(notices) == "1 tars are damaged or compressed, and what follows in them is left out"


def test_tars_that_cannot_be_read_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    assert not list(tar_members(tmp_path, "gone.tar", "video", notices))
    nested = b""
    for _ in range(12):
        nested = tar_bytes({"a.mp4": b"1", "x.tar": nested})
    (tmp_path / "x.tar").write_bytes(nested)
    assert len(read(tmp_path, notices)) == 9
    with caplog.at_level(logging.WARNING):
        notices.warn(tmp_path)
    assert "1 tars cannot be read (No such file or directory), such as gone.tar" in caplog.text
    assert "(it lies in 9 others)" in caplog.text


def test_the_key_of_a_sample_ends_at_the_first_dot(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    members = {
        "d.1/0.clip.mp4": b"1",
        "d.1/0.cls": b"run",
        "1.mp4": b"2",
        "1.meta.json": b'{"label": {"name": "jump"}}',
    }
    (tmp_path / "x/train-0000.tar").write_bytes(tar_bytes(members))
    assert labels(index(tmp_path / "x")) == {"train/d.1/0.clip.mp4": "run", "train-0000/1.mp4": "jump"}


def test_masks_and_views_belong_to_their_sample(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "x").mkdir()
    names = ("0.seg.png", "0.jpg", "0.cls", "1.png", "1.jpg", "1.cls", "2.left.jpg", "2.right.jpg", "2.cls")
    members = {name: name[:1].encode() for name in names}
    (tmp_path / "x/train-0000.tar").write_bytes(tar_bytes(members))
    with caplog.at_level(logging.WARNING):
        manifest = index(tmp_path / "x", "image")
    assert labels(manifest) == {"train-0000/0.jpg": "0", "train-0000/1.jpg": "1", "train-0000/2.left.jpg": "2"}
    assert "3 members of shards that belong to another sample (masks, views) are left out, such as" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("cls", "run\n", "run"),
        ("label", "run", "run"),
        ("json", '{"label": "run"}', "run"),
        ("json", '{"label": {"id": 3, "name": "run"}}', "run"),
        ("json", '{"fps": 3, "category": ["run"]}', "run"),
        ("json", '{"label": 7.0}', "7"),
        ("txt", "run", "run"),
        ("txt", "a man runs\nin the park", None),
        ("cls", "-1", None),
        ("cls", "", None),
        ("cls", "3 7", None),
        ("json", '{"label": [3, 7]}', None),
        ("json", "[" * 100_000, None),
        ("json", "not json", None),
        ("cls", "\udcff", None),
    ],
)
def test_labels_beside_samples(tmp_path: Path, name: str, text: str, label: str | None) -> None:
    (tmp_path / "x").mkdir()
    members = {"0.mp4": b"1", "0.cls": b"jump", "1.mp4": b"2", f"1.{name}": text.encode(errors="surrogateescape")}
    (tmp_path / "x/train-0000.tar").write_bytes(tar_bytes(members))
    manifest = index(tmp_path / "x")
    assert labels(manifest).get("train-0000/1.mp4") == label
    assert labels(manifest)["train-0000/0.mp4"] == "jump"


def test_two_numbers_of_one_name_stay_two_classes(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    members = {f"{i}.{s}": b'{"label": {"id": %d, "name": "run"}}' % i for i in range(2) for s in ("mp4", "json")}
    (tmp_path / "x/train-0000.tar").write_bytes(tar_bytes(members))
    assert labels(index(tmp_path / "x")) == {"train-0000/0.mp4": "run (0)", "train-0000/1.mp4": "run (1)"}


def test_a_shard_is_never_a_class(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for name in ("train-0000.tar", "00001.tar", "clips_000123.tar"):
        (tmp_path / "x" / name).write_bytes(tar_bytes({"0.mp4": b"1", "0.what": b"run"}))
    with pytest.raises(ManifestError, match=r"\(3 samples of shards without a label in a .cls, .label, .json or .txt"):
        index(tmp_path / "x")
    (tmp_path / "x/run.tar").write_bytes(tar_bytes({"v.1.mp4": b"1", "v.2.mp4": b"1"}))
    (tmp_path / "x/jump.tar").write_bytes(tar_bytes({"v.1.mp4": b"1"}))
    assert labels(index(tmp_path / "x")) == {"jump/v.1.mp4": "jump", "run/v.1.mp4": "run", "run/v.2.mp4": "run"}
