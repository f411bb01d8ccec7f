from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cover.catalog.annotations import index_annotations
from cover.catalog.manifest import Manifest
from cover.errors import ManifestError

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]


def index(tmp_path: Path, text: str, *, split: str = "train", class_names: list[str] | None = None) -> Manifest:
    (tmp_path / "media").mkdir(exist_ok=True)
    for name in ("a.mp4", "b.mp4", "c d.mp4"):
        (tmp_path / "media" / name).touch()
    (tmp_path / "list.txt").write_text(text)
    return index_annotations(
        tmp_path / "list.txt",
        kind="video",
        root=tmp_path / "media",
        out=tmp_path,
        name="sport",
        split=split,
        class_names=class_names,
    )


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4 0\nb.mp4 2\n",
        "a.mp4  0\n\nb.mp4   2  \n",
        "a.mp4\t0\nb.mp4\t2\n",
        "a.mp4, 0\nb.mp4, 2\n",
        "a.mp4 300 0\nb.mp4 250 2\n",
        "path,label\na.mp4,0\nb.mp4,2\n",
        "\ufefflabel,path,remark\n0,a.mp4,\n2,b.mp4,\n",
    ],
)
def test_lists_as_they_exist(tmp_path: Path, text: str) -> None:
    manifest = index(tmp_path, text)
    assert [(row.path, row.label) for row in manifest] == [("a.mp4", 0), ("b.mp4", 2)]
    assert manifest.class_names == ("0", "1", "2")
    assert manifest.path == tmp_path / "sport-train.arrow"


def test_numbers_of_frames_and_quoted_paths(tmp_path: Path) -> None:
    rows = list(index(tmp_path, 'a.mp4 300 run\n"c d.mp4" 250 jump\n'))
    assert [(row.path, row.num_frames) for row in rows] == [("a.mp4", 300), ("c d.mp4", 250)]


def test_named_columns_with_segments_and_splits(tmp_path: Path) -> None:
    header = "path,label,start_seconds,end_seconds,split\n"
    text = header + "a.mp4,run,0,2.5,train\na.mp4,jump,2.5,,train\nb.mp4,swim,,,validation\n"
    manifest = index(tmp_path, text)
    assert [(row.sample_id, row.label, row.start_seconds, row.end_seconds) for row in manifest] == [
        ("a.mp4@0-2.5", 1, 0.0, 2.5),
        ("a.mp4@2.5-", 0, 2.5, None),
    ]
    assert manifest.class_names == ("jump", "run", "swim")
    assert [row.path for row in index(tmp_path, text, split="val")] == ["b.mp4"]


def test_class_names_may_be_given_and_meant_by_number(tmp_path: Path) -> None:
    manifest = index(tmp_path, "a.mp4 run\nb.mp4 0\n", class_names=["jump", "run"])
    assert manifest.labels.tolist() == [1, 0] and manifest.class_names == ("jump", "run")


def test_missing_files_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        manifest = index(tmp_path, "gone.mp4 swim\na.mp4 run\nlost.mp4 run\n")
    assert [row.path for row in manifest] == ["a.mp4"]
    assert manifest.class_names == ("run", "swim")
    assert "sport train: 2 of 3 listed samples are missing (66.7 %), such as gone.mp4" in caplog.text
    assert (tmp_path / "sport-train.missing.txt").read_text() == "gone.mp4\tswim\nlost.mp4\trun\n"


def test_folders_of_frames_tars_and_absolute_paths(
    tmp_path: Path, put: Put, shown: Shown, tar_of: Callable[[Path, Path], Path]
) -> None:
    files = {"run/a/": 1, "run/b.mp4/": 2, "my runs/c.mp4": 3, "elsewhere/d/": 4, "e.mp4": 5}
    root = put(tmp_path / "media", files)
    tar_of(root / "shard.tar", put(tmp_path / "loose", {"jump/f.mp4": 6}))
    paths = ["run/a", "./run/b.mp4", '"my runs/c.mp4"', f"{root}/elsewhere/d", "e.mp4", "jump/f.mp4"]
    manifest = index(tmp_path, "".join(f"{path} 3 {(number + 1) % 2}\n" for number, path in enumerate(paths)))
    assert [*shown(manifest).values()] == [1, 2, 3, 4, 5, 6]
    assert [row.label for row in manifest] == [1, 0, 1, 0, 1, 0]
    assert [(row.path, row.num_frames) for row in manifest][3:] == [
        (f"{root}/elsewhere/d", 3),
        ("e.mp4", 3),
        ("shard.tar", 3),
    ]
    counted = index(tmp_path, "run/a 0\n")
    assert [(row.path, row.num_frames) for row in counted] == [("run/a", 3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list.txt is empty"),
        ("a.mp4\n", r"list.txt:1: 1 fields without a header, such as a.mp4; lines are `path label`"),
        ("a.mp4 0\n\nc d.mp4 1\n", r"list.txt:3: 3 fields in 'c d.mp4 1'; the first line has 2"),
        ("title,label\na.mp4,0\n", r"list.txt:1: columns title, label; exactly one must be called path"),
        (
            "a.mp4 0\nb.mp4 -1\n",
            r"list.txt:2: label '-1' is negative; labels are class names or numbers from 0: delete",
        ),
        (
            "my run/a.mp4 0\n",
            r"list.txt:1: num_frames is 'run/a.mp4'; it takes a number from 0 or nothing: correct it, and put",
        ),
        (
            "path,label,start_seconds,end_seconds\na.mp4,0,5,2\n",
            r"list.txt:2: the segment begins at 5 s and ends at 2 s",
        ),
        ("x.mp4 0\ny.mp4 0\n", r"none of the 2 files of .*list.txt is in .*media, such as x.mp4; give the folder"),
        ("a.mp4 0\n./a.mp4 1\n", r"list.txt:2: ./a.mp4 is 1, and in .*list.txt:1 0; a sample has one label: keep one"),
        ("path,label,split\na.mp4,0,test\n", "lists nothing of split train"),
    ],
)
def test_bad_lists_are_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        index(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_label_outside_given_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ManifestError, match=r"list.txt:2: label 'swim' is outside the 2 classes; labels are class names"
    ):
        index(tmp_path, "a.mp4 run\nb.mp4 swim\n", class_names=["jump", "run"])
    with pytest.raises(ManifestError, match=r"nowhere.csv does not exist"):
        index_annotations(tmp_path / "nowhere.csv", kind="video", root=".", out=".", name="x", split="train")
