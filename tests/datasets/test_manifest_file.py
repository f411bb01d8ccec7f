"""Damaged manifests and those of other programs are refused in one line, and never misread."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cover.datasets.manifest import Manifest, ManifestRow, write_findings, write_manifest
from cover.datasets.manifest_rules import SCHEMA
from cover.errors import ManifestError

ROWS = [
    ManifestRow("a", "run/a.mp4", 0, start_seconds=1.5, end_seconds=3.0, fps=25.0),
    ManifestRow("b", "jump/b.mp4", 1, num_frames=30, readable=False, reason="no video stream"),
]


def write(path: Path, rows: list[ManifestRow] = ROWS) -> Manifest:
    names = ["run", "jump"]
    return write_manifest(path, rows, name="clips", kind="video", split="train", class_names=names, root="/media")


def write_unsealed(path: Path, /, *, metadata: bytes | None = None, **columns: Any) -> Path:
    """The same samples as another program writes them, with other metadata or values."""
    table = write(path.with_name("sealed.arrow")).table
    for name, values in columns.items():
        field = SCHEMA.field(name)
        table = table.set_column(SCHEMA.get_field_index(name), field, pa.array(values, field.type))
    if metadata is not None:
        table = table.replace_schema_metadata({b"cover": metadata})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    return path


def content(manifest: Manifest) -> tuple[Any, ...]:
    about = (manifest.name, manifest.kind, manifest.split, manifest.class_names, manifest.root)
    return *about, list(manifest), manifest.labels.tolist(), manifest.digest


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_no_bit_of_a_file_changes_unnoticed(tmp_path: Path) -> None:
    written = content(write(tmp_path / "good.arrow"))
    data, path = (tmp_path / "good.arrow").read_bytes(), tmp_path / "bad.arrow"
    num_refused = 0
    for bit in range(3, 8 * len(data), 53):
        path.write_bytes(flipped(data, bit))
        try:
            assert content(Manifest.open(path)) == written, bit  # where the file says that it has a digest
        except ManifestError as error:
            assert str(error).startswith(
                f"{path} is damaged, because its SHA-256 is not the one that it states; restore"
            )
            num_refused += 1
    assert num_refused >= 600


def test_files_of_others_are_read_or_refused_whatever_is_wrong_with_them(tmp_path: Path) -> None:
    data, path = write_unsealed(tmp_path / "good.arrow").read_bytes(), tmp_path / "bad.arrow"
    for bit in range(3, 8 * len(data), 211):
        path.write_bytes(flipped(data, bit))
        try:
            content(Manifest.open(path))
        except ManifestError as error:
            assert "\n" not in str(error)


def test_the_seal_is_the_digest_of_the_file_with_zeros_in_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "clips.arrow").path
    reader = pa.ipc.open_file(path)
    assert reader.read_all().to_pylist() == Manifest.open(path).table.to_pylist()
    digest = json.loads(reader.metadata[b"cover"])["sha256"].encode()
    assert hashlib.sha256(path.read_bytes().replace(digest, b"0" * 64)).hexdigest().encode() == digest


def test_what_another_program_has_changed_is_checked_in_full(tmp_path: Path) -> None:
    path = write_unsealed(tmp_path / "clips.arrow", label=[1, 0])
    assert Manifest.open(path).labels.tolist() == [1, 0]
    write_unsealed(path, sample_id=["a", "a"])
    with pytest.raises(ManifestError, match="a occurs more than once among the sample ids of"):
        Manifest.open(path)


def test_what_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "clips.arrow").path
    data = path.read_bytes()
    for num_bytes in (0, 1, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:num_bytes])
        with pytest.raises(ManifestError, match=r"clips\.arrow is (not a manifest \(|damaged)"):
            Manifest.open(path)
    path.write_bytes(bytes(len(data)))
    with pytest.raises(ManifestError, match=r"is not a manifest \(Not an Arrow file\); write one with `cover index`"):
        Manifest.open(path)


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, r"is not a manifest \(it is a pipe, not a file\); write one"),
        (bind, r"is not a manifest \(it is a socket, not a file\)"),
        (lambda path: path.symlink_to("/dev/zero"), r"is not a manifest \(it is a device, not a file\)"),
        (lambda path: path.symlink_to(path), r"cannot be read \(Too many levels of symbolic links\); name a manifest"),
        (Path.mkdir, "is a folder, not a manifest"),
    ],
    ids=["pipe", "socket", "device", "loop", "folder"],
)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], Any], message: str) -> None:
    make(tmp_path / "a")
    with pytest.raises(ManifestError, match=message):
        Manifest.open(tmp_path / "a")


ABOUT = {"name": "clips", "kind": "video", "split": "train", "class_names": ["run", "jump"], "root": "/media"}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (b"", "is not a manifest"),
        (b"[]", "has no readable metadata; write it with `cover index`"),
        (b"{", "has no readable metadata"),
        (b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "has no readable metadata"),
        (b'{"name": ' + b"9" * 10_000 + b"}", "has no readable metadata"),
        (b"{}", "name is missing; it must be a name without control characters: correct it and index again"),
        ({"name": "a\x1b[2J"}, r"name = 'a\\x1b\[2J'; it must be a name without control characters"),
        ({"name": "a" * 1000}, None),
        ({"kind": "audio"}, "kind = 'audio'; it must be video or image"),
        ({"kind": ["video"]}, r"kind = \['video'\]; it must be video or image"),
        ({"split": "../../x"}, r"split = '\.\./\.\./x'; it must be a name without / and control characters"),
        ({"class_names": "run"}, "class_names = 'run'; it must be a list of one or more names"),
        ({"class_names": []}, r"class_names = \[\]; it must be a list"),
        ({"class_names": ["run", 1]}, "class 1 is not a name without control characters; rename it"),
        ({"class_names": ["run", "\ud800"]}, r"class '\\ud800' is not a name without control characters"),
        ({"class_names": ["run", "run"]}, "run occurs more than once among the class names"),
        ({"class_names": ["run"]}, r"label 1 of .*'s sample b is outside its 1 classes; labels are 0 to 0"),
        ({"root": 5}, "root = 5; it must be the path of a folder"),
        ({"root": "a\0"}, "root = .*; it must be the path of a folder"),
        ({"relative_root": 5}, "relative_root = 5; it must be the path of a folder"),
    ],
)
def test_metadata_of_strangers_is_checked(
    tmp_path: Path, metadata: bytes | dict[str, Any], message: str | None
) -> None:
    written = metadata if isinstance(metadata, bytes) else json.dumps(ABOUT | metadata).encode()
    path = write_unsealed(tmp_path / "clips.arrow", metadata=written)
    if message is None:
        assert Manifest.open(path)[0].label == 0
        return
    with pytest.raises(ManifestError, match=message) as caught:
        Manifest.open(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("label", [0, 2], "label 2 of .*'s sample b is outside its 2 classes; labels are 0 to 1"),
        ("label", [-1, 0], "label -1 of .*'s sample a is outside its 2 classes"),
        ("path", ["a\0", "b"], r"path 'a\\x00' of .*'s sample a is refused; a name must not contain NUL"),
        (
            "offset",
            [-1, None],
            r"offset -1 of .*'s sample a is out of bounds \(0 or more\); correct it and index again",
        ),
        ("length", [5, None], "length 5 of .* is without an offset"),
        ("start_seconds", [math.nan, None], r"start_seconds nan of .* is out of bounds \(0 to 1e9\)"),
        ("start_seconds", [-0.5, None], "start_seconds -0.5 of"),
        ("start_seconds", [3.5, None], "end_seconds 3.0 of .*'s sample a is before its start_seconds"),
        ("end_seconds", [math.inf, None], "end_seconds inf of"),
        ("num_frames", [None, -1], "num_frames -1 of .*'s sample b is out of bounds"),
        ("num_frames", [None, 2**62], "num_frames 4611686018427387904 of"),
        ("fps", [0.0, None], r"fps 0.0 of .* is out of bounds \(above 0 and up to 1e9\)"),
        ("fps", [-25.0, None], "fps -25.0 of"),
        ("duration_seconds", [math.nan, None], "duration_seconds nan of"),
        ("width", [0, None], "width 0 of"),
        ("height", [2**31 - 1, None], "height 2147483647 of"),
        ("source_end_seconds", [math.inf, None], "source_end_seconds inf of"),
    ],
)
def test_values_of_strangers_are_checked(tmp_path: Path, column: str, values: Any, message: str) -> None:
    path = write_unsealed(tmp_path / "clips.arrow", **{column: values})
    with pytest.raises(ManifestError, match=message) as caught:
        Manifest.open(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_replaced_is_not_taken_for_the_one_that_was_opened(tmp_path: Path) -> None:
    manifest = write(tmp_path / "clips.arrow")
    before, for_a_worker = list(manifest), pickle.dumps(manifest)
    write(tmp_path / "clips.arrow", [ManifestRow("c", "longer/name.mp4", 0)])
    assert list(manifest) == before
    with pytest.raises(ManifestError, match=r"clips\.arrow has changed since it was opened; run the command again"):
        pickle.loads(for_a_worker)
    with pytest.raises(ManifestError, match="has changed since it was opened"):
        write_findings(manifest, {"readable": [True, True]})
    assert len(Manifest.open(tmp_path / "clips.arrow")) == 1


def test_workers_do_not_check_again_what_is_checked(tmp_path: Path) -> None:
    manifest = write(tmp_path / "clips.arrow")
    status = manifest.path.stat()
    data = manifest.path.read_bytes()
    manifest.path.write_bytes(data.replace(b"run/a.mp4", b"run/c.mp4"))
    os.utime(manifest.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert pickle.loads(pickle.dumps(manifest))[0].path == "run/c.mp4"
    with pytest.raises(ManifestError, match="is damaged"):
        Manifest.open(manifest.path)
