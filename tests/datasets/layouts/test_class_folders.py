from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest
from cover.errors import CoverError, ManifestError

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]
TarOf = Callable[[Path, Path], Path]


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
    assert "3 files are not videos of a class and are left out (2 .txt, 1 .mp4)" in caplog.text


def test_folders_without_media_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="nowhere is not a folder"):
        index(tmp_path / "nowhere")
    with pytest.raises(ManifestError, match=r"has no video files in class folders \(it is empty\)"):
        index(make_files(tmp_path / "empty"))
    with pytest.raises(
        ManifestError, match=r"has no video files in class folders \(2 folders of images\); expected ROOT/class/file"
    ):
        index(make_files(tmp_path / "pictures", "a/1.jpg", "b/2.jpg"))
    with pytest.raises(ManifestError, match="contains the split train beside extra"):
        index(make_files(tmp_path / "mixed", "train/a/1.mp4", "extra/2.mp4"))
    assert not (tmp_path / "out").exists()


def test_folders_of_frames_are_videos(tmp_path: Path, put: Put, shown: Shown) -> None:
    root = put(
        tmp_path / "x", {"train/run/a/": 1, "train/run/b.mp4": 2, "train/jump/deeper/c.avi/": 3, "val/run/d/": 4}
    )
    manifests = index(root)
    assert shown(manifests["train"]) == {"train/run/a": 1, "train/run/b.mp4": 2, "train/jump/deeper/c.avi": 3}
    assert labels(manifests["val"]) == {"val/run/d": "run"}
    assert manifests["val"][0].num_frames == 3, "optical flow beside the frames is none of them"


def test_tars_are_what_they_unpack_to(tmp_path: Path, put: Put, shown: Shown, tar_of: TarOf) -> None:
    root = put(tmp_path / "x", {"train/run/a.mp4": 1})
    tar_of(root / "train" / "jump.tar", put(tmp_path / "loose", {"b.mp4": 2}))
    tar_of(root / "train" / "more.tar", put(tmp_path / "loose", {"run/c.mp4": 3}))
    tar_of(root / "val-0001.tar", put(tmp_path / "loose", {"run/d.mp4": 4}))
    manifests = index(root)
    assert shown(manifests["train"]) == {"train/jump/b.mp4": 2, "train/run/a.mp4": 1, "train/run/c.mp4": 3}
    assert shown(manifests["val"]) == {"val/run/d.mp4": 4}
    assert labels(manifests["train"]) == {
        "train/jump.tar": "jump",
        "train/run/a.mp4": "run",
        "train/more.tar": "run",
    }


@pytest.mark.parametrize(
    ("beside", "class_names"),
    [
        ({"0.cls": "1", "1.cls": "0\n", "2.cls": "1"}, ("0", "1")),
        ({"0.cls": "run", "1.txt": "jump\n", "2.json": '{"label": "run"}'}, ("jump", "run")),
        (
            {"0.json": '{"class": "run", "fps": 3}', "1.json": '{"class": "jump"}', "1.txt": "words", "2.txt": "run"},
            ("jump", "run"),
        ),
    ],
)
def test_webdataset_shards(
    tmp_path: Path, put: Put, shown: Shown, tar_of: TarOf, beside: Mapping[str, str], class_names: tuple[str, ...]
) -> None:
    for split, numbers in (("train", (0, 1)), ("validation", (2,))):
        folder = put(tmp_path / split, {f"{number}.mp4": number for number in numbers})
        for name, text in beside.items():
            if int(name[0]) in numbers:
                (folder / name).write_text(text)
        (tmp_path / "shards").mkdir(exist_ok=True)
        tar_of(tmp_path / "shards" / f"clips-{split}-0000.tar", folder)
    manifests = index(tmp_path)
    assert shown(manifests["train"]) == {"shards/clips-train-0000/0.mp4": 0, "shards/clips-train-0000/1.mp4": 1}
    assert shown(manifests["val"]) == {"shards/clips-validation-0000/2.mp4": 2}
    assert manifests["train"].class_names == class_names
    assert manifests["train"].labels.tolist() == [1, 0] and manifests["val"].labels.tolist() == [1]


def test_damaged_and_compressed_archives_are_named(
    tmp_path: Path, put: Put, tar_of: TarOf, caplog: pytest.LogCaptureFixture
) -> None:
    root = put(tmp_path / "x", {"run/a.mp4": 1})
    tar_of(root / "jump.tar", put(tmp_path / "loose", {"b.mp4": 2, "c.mp4": 3}))
    content = (root / "jump.tar").read_bytes()
    (root / "jump.tar").write_bytes(content[: content.rindex(b"moov")])
    (root / "swim.tar").write_bytes(b"no tar" * 1000)
    (root / "walk.tar.gz").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert set(labels(index(root)["train"]).values()) == {"run", "jump"}
    assert (
        "x: 2 tars are damaged or compressed, and what follows in them is left out, "
        "such as jump.tar (c.mp4 is cut short), swim.tar (invalid header)"
    ) in caplog.text
    assert "contains 1 compressed archives, which are not read; unpack them" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ("x/train/run/1.mp4", "x/val/run/2.mp4"),
            r"split folders inside class folders, such as x/train, x/val; .*: index .*/x$",
        ),
        (("run/train/1.mp4", "run/val/2.mp4", "jump/3.mp4"), r"such as run/train, run/val; .*: move them above"),
        (("run/train/1.mp4", "jump/train/3.mp4"), r"such as jump/train, run/train; .*: move them above"),
        (
            ("train/a/val/1.mp4", "train/a/test/2.mp4", "train/b/3.mp4"),
            r"inside class folders, such as a/test, a/val; ",
        ),
        (("train/train/run/1.mp4",), r"the classes of x are named like splits \(train\)"),
        (("train/1.mp4", "test/2.mp4"), r"the classes of x are named like splits \(test, train\)"),
        (("run/1.foo", "jump/2.foo"), r"has no video files in class folders \(2 .foo\)"),
    ],
)
def test_split_folders_on_the_wrong_level_are_refused(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        index(make_files(tmp_path / "x", *files))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("files", "message", "classes"),
    [
        (
            ("a/1.mp4", "b/test/2.mp4"),
            "1 folders inside class folders are named like splits, such as b/test",
            ("a", "b"),
        ),
        (
            ("dev/run/1.mp4", "dev/jump/2.mp4", "holdout/run/3.mp4", "holdout/jump/4.mp4", "holdout/fly/5.mp4"),
            "2 class folders, such as dev, holdout, contain folders of the same names, such as jump, run; if",
            ("dev", "holdout"),
        ),
        (("a/1.mp4", "b/2.foo", "c/3.mp4", "d/e/"), "not classes, such as b (1 .foo), d (empty)", ("a", "c")),
        (("train/a/1.mp4", "train/b/2.mp4", "test/3.mp4"), "1 files in split folders and in no class", ("a", "b")),
        (("a/1.mp4", "b/2.mp4", "b/masks/2.mp4"), "1 samples in folders of thumbnails, previews or m", ("a", "b")),
        (("a/1.mp4", "b/2.mp4", "b/previews/1.jpg"), "1 samples in folders of thumbnails, previews or", ("a", "b")),
        (("train/a/1.mp4", "train/b/1.mp4", "masks/a/1.mp4"), "samples in folders of thumbnails, previews", ("a", "b")),
        (("masks/1.mp4", "faces/2.mp4"), "1 classes are named like folders of derived pictures", ("faces", "masks")),
    ],
)
def test_folders_that_may_not_be_meant_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, files: tuple[str, ...], message: str, classes: tuple[str, ...]
) -> None:
    root = make_files(tmp_path / "x", *(file for file in files if not file.endswith("/")))
    for folder in (file for file in files if file.endswith("/")):
        (root / folder).mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        assert index(root)["train"].class_names == classes
    assert message in caplog.text


def test_hard_links_in_two_classes_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_files(tmp_path / "x", "train/run/a.mp4", "train/jump/b.mp4", "val/run/c.mp4", "val/jump/d.mp4")
    os.link(root / "train/run/a.mp4", root / "train/run/copy.mp4")
    with caplog.at_level(logging.WARNING):
        assert len(index(root)["train"]) == 3
        assert not caplog.messages
        os.link(root / "train/run/a.mp4", root / "train/jump/hard.mp4")
        os.link(root / "train/jump/b.mp4", root / "val/jump/b.mp4")
        os.link(root / "train/run/a.mp4", root / "loose.mp4")
        assert len(index(root)["train"]) == 4
    assert caplog.messages[1:] == [
        f"{root}: 2 files are in several classes or splits as hard links, such as "
        "train/jump/hard.mp4 = train/run/a.mp4, train/jump/b.mp4 = val/jump/b.mp4; keep each in one"
    ]


def test_folders_in_class_folders_are_ordinary(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        index(make_files(tmp_path / "x", "run/u1/1.mp4", "run/u2/2.mp4", "jump/u1/3.mp4", "jump/u3/4.mp4"))
        index(make_files(tmp_path / "y", "run/a/1.mp4", "run/b/2.mp4", "jump/a/3.mp4", "jump/b/4.mp4", "jump/5.mp4"))
    assert not caplog.messages


def test_names_in_both_forms_of_unicode_are_one_class(tmp_path: Path) -> None:
    root = make_files(
        tmp_path / "x", "train/caf\u00e9/1.mp4", "train/run/2.mp4", "val/cafe\u0301/3.mp4", "val/run/4.mp4"
    )
    manifests = index(root)
    assert manifests["val"].class_names == ("caf\u00e9", "run")
    assert labels(manifests["val"]) == {"val/cafe\u0301/3.mp4": "caf\u00e9", "val/run/4.mp4": "run"}
    assert all(row.file.is_file() for manifest in manifests.values() for row in manifest)


def test_suffixes_that_the_decoders_read(tmp_path: Path) -> None:
    names = [f"run/a{suffix}" for suffix in (".divx", ".3g2", ".asf", ".mxf", ".y4m", ".MOV", ".m2v", ".apng")]
    assert len(index(make_files(tmp_path / "x", *names, "jump/a.mpv"))["train"]) == 9
    images = make_files(tmp_path / "i", *(f"cat/a{suffix}" for suffix in (".avif", ".HEIC", ".heif", ".jfif", ".jpe")))
    (manifest,) = index_folder(images, kind="image", out=tmp_path / "out")
    assert len(manifest) == 5


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(CoverError, match=r"out/x-train.arrow cannot be written \(File exists\); name another place"):
        index(make_files(tmp_path / "x", "a/1.mp4", "b/2.mp4"))
