from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cover.curation.dataset_pass import Pool
from cover.curation.pack import PackFormat, pack
from cover.curation.packed_names import PackedNames
from cover.datasets.manifest import ManifestRow, write_manifest
from cover.errors import CoverError


def names_of(*sample_ids: str) -> list[str]:
    names = PackedNames(sample_ids, "video")
    return [names.name_of(sample_id) for sample_id in sample_ids]


def test_ids_tell_the_names() -> None:
    assert names_of("run/a.webm", "run/b.MP4", "/data/../c.mp4", "./d", "a b#%2E.mp4@0-1", ".hidden/e") == [
        "run/a.webm.mp4",
        "run/b.MP4",
        "data/%2E%2E/c.mp4",
        "d.mp4",
        "a b#%2E.mp4@0-1.mp4",
        ".hidden/e.mp4",
    ]
    assert PackedNames(["a.JPEG", "b.png"], "image").name_of("b.png") == "b.png.jpg"


@pytest.mark.parametrize(
    "sample_ids",
    [
        ("a", "a.mp4"),
        ("run/a", "run//a", "./run/a", "/run/a", "run/./a"),
        ("..", "%2E%2E"),
        ("Run/a", "run/A"),
        ("caf\u00e9", "cafe\u0301"),
        ("a.mp4", "a.mp4/b", "a.mp4/b.mp4/c"),
        ("x" * 300, "x" * 301, "x" * 300 + "/y"),
        ("", "/", ".", "//"),
        ("a/" * 900 + "b", "a/" * 900 + "c"),
        ("\u00e9" * 126, "\u00e9" * 127),
    ],
)
def test_no_two_ids_share_a_file_or_a_folder_and_a_file(tmp_path: Path, sample_ids: tuple[str, ...]) -> None:
    names = names_of(*sample_ids)
    assert len({name.casefold() for name in names}) == len(sample_ids)
    for name in names:
        file = tmp_path / name
        assert file.resolve().is_relative_to(tmp_path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("x").close()
    assert names_of(*reversed(sample_ids)) == names[::-1]


def test_a_name_by_digest_is_readable_and_cannot_be_taken() -> None:
    (first, _) = names_of("run/a.mp4/clip", "run/a.mp4")
    assert first.startswith("clip~") and len(first) == len("clip~.mp4") + 32
    (again, _, other) = names_of("run/a.mp4/clip", "run/a.mp4", first)
    assert again == first and other != first


def test_names_as_long_as_the_file_system_allows_are_written(tmp_path: Path, write_video: Any) -> None:
    write_video(tmp_path / "data/a.mp4", num_frames=4)
    rows = [ManifestRow(sample_id, "data/a.mp4", 0) for sample_id in ("n" * 251 + ".mp4", "m" * 251, "m" * 252)]
    options: dict[str, Any] = {"name": "x", "kind": "video", "split": "train", "class_names": ["run"]}
    manifest = write_manifest(tmp_path / "x.arrow", rows, root=tmp_path, **options)
    packed = pack(manifest, tmp_path / "packed", PackFormat(48, 4)).run(Pool(num_processes=1, timeout_seconds=30))
    assert all(row.readable for row in packed)
    assert [len(row.file.name) for row in packed] == [255, 255, 40 + 33 + 4]
    assert sorted(tmp_path.glob("packed/x/*")) == sorted(row.file for row in packed)


def test_copies_never_lie_among_the_originals(tmp_path: Path) -> None:
    options: dict[str, Any] = {"name": "x", "kind": "video", "split": "train", "class_names": ["run"]}
    row = ManifestRow("run/a.mp4", "run/a.mp4", 0)
    manifest = write_manifest(tmp_path / "manifests/x.arrow", [row], root=tmp_path / "data/x", **options)
    with pytest.raises(
        CoverError, match=r"data/x/run holds files of .*x.arrow, and copies would be written to .*data/x;"
    ):
        pack(manifest, tmp_path / "data", PackFormat(48, 4))
