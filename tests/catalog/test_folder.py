from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cover.catalog.folder import index_folder
from cover.catalog.manifest import Manifest
from cover.errors import ManifestError


def make_files(root: Path, *names: str) -> Path:
    root.mkdir()
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def index(root: Path) -> dict[str, Manifest]:
    return {manifest.split: manifest for manifest in index_folder(root, kind="video", out=root.parent / "out")}


def labels(manifest: Manifest) -> dict[str, str]:
    return {row.path: manifest.class_names[row.label] for row in manifest}


def test_class_folders_are_one_training_split(tmp_path: Path) -> None:
    root = make_files(tmp_path / "sport", "run/b.mp4", "run/a.webm", "jump/c.MKV", "jump/deeper/d.avi")
    manifests = index(root)
    assert list(manifests) == ["train"]
    assert manifests["train"].path == tmp_path / "out" / "sport-train.arrow"
    assert manifests["train"].class_names == ("jump", "run")
    assert labels(manifests["train"]) == {
        "jump/c.MKV": "jump",
        "jump/deeper/d.avi": "jump",
        "run/a.webm": "run",
        "run/b.mp4": "run",
    }
    assert manifests["train"][0].file == root / "jump/c.MKV"


def test_splits_share_the_class_list_even_where_a_class_is_absent(tmp_path: Path) -> None:
    root = make_files(tmp_path / "x", "train/a/1.mp4", "train/c/2.mp4", "validation/b/3.mp4", "test/c/4.mp4")
    manifests = index(root)
    assert sorted(manifests) == ["test", "train", "val"]
    assert {manifest.class_names for manifest in manifests.values()} == {("a", "b", "c")}
    assert labels(manifests["val"]) == {"validation/b/3.mp4": "b"}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    root = make_files(tmp_path / "vehicles", "train/1.mp4", "car/2.mp4")
    assert index(root)["train"].class_names == ("car", "train")


def test_other_files_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_files(tmp_path / "x", "a/1.mp4", "a/1.txt", "a/2.txt", "loose.mp4", "a/.hidden.mp4", ".cache/b/3.mp4")
    with caplog.at_level(logging.WARNING):
        assert labels(index(root)["train"]) == {"a/1.mp4": "a"}
    assert "3 files are no videos of a class and were left out (2 .txt, 1 .mp4)" in caplog.text


def test_folders_without_media_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="nowhere is not a folder"):
        index(tmp_path / "nowhere")
    with pytest.raises(ManifestError, match=r"holds no video files in class folders \(it is empty\)"):
        index(make_files(tmp_path / "empty"))
    with pytest.raises(
        ManifestError, match=r"holds no video files in class folders \(2 folders of images\); expected ROOT/class/file"
    ):
        index(make_files(tmp_path / "pictures", "a/1.jpg", "b/2.jpg"))
    with pytest.raises(ManifestError, match="holds the split train beside extra"):
        index(make_files(tmp_path / "mixed", "train/a/1.mp4", "extra/2.mp4"))
    assert not (tmp_path / "out").exists()
