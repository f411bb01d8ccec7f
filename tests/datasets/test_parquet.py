from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError
from cover.media.source import MediaSource

ONE = "train-00000-of-00001.parquet"


def shard(
    path: Path,
    labels: Any,
    *,
    column: str = "label",
    media: str = "image",
    content: bytes | None = b"x",
    names: Any = None,
    metadata: str | None = None,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": content, "path": "a.jpg"} for _ in range(len(labels))]
    cell_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({media: pa.array(cells, cell_type), column: labels})
    if names is not None:
        metadata = json.dumps({"info": {"features": {column: {"names": names, "_type": "ClassLabel"}}}})
    pq.write_table(table.replace_schema_metadata({"huggingface": metadata} if metadata else {}), path)


def index(root: Path, kind: str = "image") -> Manifest:
    return index_folder(root, kind="video" if kind == "video" else "image", out=root.parent / "out")[0]


def classes(manifest: Manifest) -> list[str]:
    return [manifest.class_names[row.label] for row in manifest]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["dog", "cat"], ["dog", "cat"]),
        (pa.array(["dog", "cat"]).dictionary_encode(), ["dog", "cat"]),
        ([1, 0], ["1", "0"]),
        ([1.0, 0.0], ["1", "0"]),
        ([[1], [0]], ["1", "0"]),
        ([b"dog", "café".encode()], ["dog", "café"]),
        ([[b"dog"], [b"cat"]], ["dog", "cat"]),
        ([20240116, 20240115], ["20240116", "20240115"]),
        (["dog", None, "", "cat"], ["dog", "cat"]),
        ([1, -1, None, 0], ["1", "0"]),
        ([[1], [], [0]], ["1", "0"]),
    ],
)
def test_labels_are_numbers_or_names(tmp_path: Path, labels: Any, names: list[str]) -> None:
    shard(tmp_path / "x" / ONE, labels)
    assert classes(index(tmp_path / "x")) == names


@pytest.mark.parametrize("column", ["labels", "fine_label", "Category"])
def test_usual_names_of_columns(tmp_path: Path, column: str) -> None:
    shard(tmp_path / "x/data" / ONE, [1, 0], column=column, media="img", names=["cat", "dog"])
    assert classes(index(tmp_path / "x")) == ["dog", "cat"]


def test_videos(tmp_path: Path, write_video: Callable[..., Path]) -> None:
    content = write_video(tmp_path / "a.mp4", num_frames=2).read_bytes()
    shard(tmp_path / "x/default" / ONE, [0, 1], media="video", content=content)
    manifest = index(tmp_path / "x", "video")
    assert (manifest.kind, [row.offset for row in manifest]) == ("video", [0, 1])
    with pytest.raises(ManifestError, match=r"holds videos; index it with `cover index folder --kind video`"):
        index(tmp_path / "x")


def test_the_column_of_the_media_is_the_one_with_a_usual_name_when_indexed_and_when_read(tmp_path: Path) -> None:
    for number, (media, others, column) in enumerate(
        (("image", ("annotation", "depth"), "image"), ("video", ("audio", "image"), "video"), ("scan", (), "scan"))
    ):
        root = tmp_path / str(number)
        shard(root / ONE, ["a", "b"], media=media, content=column.encode())
        table = pq.read_table(root / ONE)
        wrong = pa.array([{"bytes": b"wrong", "path": "m.png"}] * 2, table[media].type)
        pq.write_table(
            pa.table({name: wrong for name in others} | dict(zip(table.column_names, table, strict=True))), root / ONE
        )
        row = index(root, "video" if media == "video" else "image")[1]
        with MediaSource.of(row).open() as opened:
            assert opened.reader().read() == column.encode()


def test_unreadable_metadata_and_missing_shards_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shard(tmp_path / "x/train-00000-of-00003.parquet", [1, 0], metadata="not json")
    with caplog.at_level(logging.WARNING):
        assert classes(index(tmp_path / "x")) == ["1", "0"]
    assert "1 of 3 shards of train are present" in caplog.text
    assert "the metadata of `label` cannot be read, so classes are named by their labels" in caplog.text


def _two_folders(root: Path) -> None:
    shard(root / "a" / ONE, [0, 1])
    shard(root / "b" / ONE, [0, 1])


def _two_sets(root: Path) -> None:
    shard(root / f"a-{ONE}", [0, 1])
    shard(root / f"b-{ONE}", [0, 1])


def _two_exports(root: Path) -> None:
    shard(root / "train-00000-of-00001-1a.parquet", [0, 1])
    shard(root / "train-00000-of-00001-2b.parquet", [0, 1])


def _two_types(root: Path) -> None:
    shard(root / "train-00000-of-00002.parquet", [0, 1])
    shard(root / "train-00001-of-00002.parquet", ["cat", "dog"])


def _two_columns(root: Path) -> None:
    cells = pa.array([b"x"], pa.binary())
    structs = [pa.StructArray.from_arrays([cells], ["bytes"]) for _ in range(2)]
    pq.write_table(pa.table({"left": structs[0], "right": structs[1], "label": [0]}), root / ONE)


def _pointer(root: Path) -> None:
    (root / ONE).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: shard(root / ONE, [[0, 1], [1]]), r"`label` is \[0, 1\]; a sample has one label"),
        (lambda root: shard(root / ONE, [{"id": 1}]), r"`label` is {'id': 1}; a sample has one label"),
        (lambda root: shard(root / ONE, [0, 1], content=None), r"image.bytes is empty in all rows"),
        (
            lambda root: shard(root / ONE, [0, 2], names=["cat", "dog"]),
            r"label 2 is outside the 2 classes that its meta",
        ),
        (
            lambda root: pq.write_table(pa.table({"text": ["a"], "label": [0]}), root / ONE),
            r"no column image, video or by",
        ),
        (
            lambda root: pq.write_table(pa.table({"image": ["a.jpg"], "label": [0]}), root / ONE),
            r"parquet: column image contains no files, perhaps their paths; index these files with",
        ),
        (
            _two_columns,
            r"parquet: several columns could be meant \(left.bytes, right.bytes\); call the right one image",
        ),
        (lambda root: shard(root / ONE, [b"\xff", b"a"]), r"no readable column `label` \('utf-8' codec can't decode"),
        (_two_folders, r"has Parquet files in 2 folders \(a, b\); index one"),
        (_two_sets, r"has several sets of shards for train \(a-train-…-of-00001, b-train-…-of-00001\); keep one"),
        (_two_exports, r"2b.parquet has the number of another shard; keep one export"),
        (_two_types, r"00001-of-00002.parquet has no readable column `label` of numbers, unlike other shards"),
        (
            _pointer,
            r"is not a readable Parquet file \(it is a pointer of Git LFS; `git lfs pull` downloads the file itself\)",
        ),
        (
            lambda root: (root / ONE).write_bytes(b"PAR1 cut"),
            r"is not a readable Parquet file \(Parquet .*\); download it ag",
        ),
        (
            lambda root: os.symlink("gone", root / ONE),
            r"is not a readable Parquet file \(it is a link that leads nowhere",
        ),
        (
            lambda root: os.mkfifo(root / ONE),
            r"is not a readable Parquet file \(it is a link that leads nowhere, or not a file",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    (tmp_path / "x").mkdir()
    make(tmp_path / "x")
    with pytest.raises(ManifestError, match=message) as caught:
        index(tmp_path / "x")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
