from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cover.datasets.layouts.annotations import index_annotations
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]


def index(tmp_path: Path, text: str, *, split: str = "train", class_names: list[str] | None = None) -> Manifest:
    (tmp_path / "media").mkdir(exist_ok=True)
    for name in ("a.mp4", "b.mp4", "c d.mp4"):
        (tmp_path / "media" / name).touch()
    (tmp_path / "list.txt").write_text(text)
    (tmp_path / f"sport-{split}.arrow").unlink(missing_ok=True)  # other classes would be refused
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
        "path,label,\na.mp4,0,\nb.mp4,2,\n",
        "a.mp4,0,\nb.mp4,2,\n",
        "\ufefflabel,path,remark\n0,a.mp4,\n2,b.mp4,\n",
        "\ufeffpath;label\r\na.mp4;0\r\nb.mp4;2\r\n",
        "video,class\na.mp4,0\nb.mp4,2\n",
        "filename class_id\na.mp4 0\nb.mp4 2\n",
        "Image Path\tframes\tCategory\na.mp4\t16.0\t0\nb.mp4\t8\t2.0\n",
    ],
)
def test_lists_as_they_exist(tmp_path: Path, text: str) -> None:
    manifest = index(tmp_path, text)
    assert [(row.path, row.label) for row in manifest] == [("a.mp4", 0), ("b.mp4", 2)]
    assert manifest.class_names == ("0", "1", "2")
    assert manifest.path == tmp_path / "sport-train.arrow"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a.mp4;run, fast\nb.mp4;jump, high\n", ["run, fast", "jump, high"]),
        ("a.mp4,run; fast\nb.mp4,jump; high\n", ["run; fast", "jump; high"]),
        ("a.mp4 action\nb.mp4 label_1\n", ["action", "label_1"]),
        ("a.mp4 caf\u00e9\nb.mp4 cafe\u0301\n", ["caf\u00e9", "caf\u00e9"]),
        ("a.mp4 20240116\nb.mp4 20240115\n", ["20240116", "20240115"]),
        ("a.mp4 007\nb.mp4 010\n", ["7", "10"]),
    ],
)
def test_labels_as_they_are_meant(tmp_path: Path, text: str, names: list[str]) -> None:
    manifest = index(tmp_path, text)
    assert [manifest.class_names[row.label] for row in manifest] == names


def test_times_in_other_words_are_taken_and_unclear_ones_refused(tmp_path: Path) -> None:
    (row,) = index(tmp_path, "video,class,time_start,time_end\na.mp4,run,0.5,2\n")
    assert (row.sample_id, row.start_seconds, row.end_seconds) == ("a.mp4@0.5-2", 0.5, 2.0)
    with pytest.raises(
        ManifestError, match=r"list.txt:1: column start may be a time in seconds or a frame; call times"
    ):
        index(tmp_path, "path,label,start,end\na.mp4,run,0,16\n")


def test_files_are_found_by_windows_paths_other_suffixes_and_forms_of_unicode(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("run/x.mp4", "cafe\u0301/deep/e\u0301.mp4", "two.mp4", "two.avi", "r\u00e9.mp4", "re\u0301.mp4"):
        (tmp_path / "media" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "media" / name).touch()
    listed = ["run\\x.mp4", "caf\u00e9/deep/\u00e9.mp4", "b", "a.avi", "two", "r\u00e9.mp4", "re\u0301.mp4"]
    with caplog.at_level(logging.WARNING):
        manifest = index(tmp_path, "".join(f"{path} {number % 2}\n" for number, path in enumerate(listed)))
    assert [(row.sample_id, row.path, row.label) for row in manifest] == [
        ("run/x.mp4", "run/x.mp4", 0),
        ("caf\u00e9/deep/\u00e9.mp4", "cafe\u0301/deep/e\u0301.mp4", 1),
        ("b", "b.mp4", 0),
        ("a.avi", "a.mp4", 1),
        ("r\u00e9.mp4", "r\u00e9.mp4", 1),
        ("re\u0301.mp4", "re\u0301.mp4", 0),
    ]
    assert "list.txt: 4 files are found under names with another suffix, slash or Unicode form, such as" in caplog.text
    assert "media: 1 listed paths match several files and are left out, such as two" in caplog.text
    assert (tmp_path / "sport-train.missing.txt").read_text() == "two\t0\n"
    assert [row.path for row in index(tmp_path, "a.avi run\na.mp4 jump\n")] == ["a.mp4"], "another line has that file"


def test_a_line_that_repeats_is_taken_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        manifest = index(tmp_path, "a.mp4 0\n./b.mp4 1\na.mp4 0\nb.mp4 1\n")
    assert [row.sample_id for row in manifest] == ["a.mp4", "./b.mp4"]
    assert "sport train: 2 lines repeat a sample, such as a.mp4, b.mp4; each counts once" in caplog.text


def test_labels_that_count_from_1_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        index(tmp_path, "a.mp4 1\nb.mp4 2\n", class_names=["run", "jump", "swim"])
    assert (
        "labels are 1 to 2, so none is class 0, run; if they start at 1, number the class list: `1 run`" in caplog.text
    )
    with pytest.raises(
        ManifestError, match=r"list.txt:2: label '3' is outside the 3 classes; .*`1 NAME` names class 1"
    ):
        index(tmp_path, "a.mp4 1\nb.mp4 3\n", class_names=["run", "jump", "swim"])


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


def test_lines_of_no_known_split_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "path,label,split\na.mp4,0,Train\nb.mp4,1,dev\nc d.mp4,1,\nx.mp4,1,dev\ny.mp4,1,test\n"
    with caplog.at_level(logging.WARNING):
        assert [row.path for row in index(tmp_path, text)] == ["a.mp4"]
    assert (
        "list.txt: 3 lines belong to no split and are left out (their split column has dev (2), nothing (1)); call it "
        "train, val or test to index them"
    ) in caplog.text
    with pytest.raises(
        ManifestError,
        match=r"lists nothing of split val; its split column has dev \(2\), train \(1\), nothing \(1\): index",
    ):
        index(tmp_path, text, split="val")


def test_columns_that_are_ignored_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        index(tmp_path, ",path,label,fps,\n0,a.mp4,run,30,\n1,b.mp4,jump,30,x\n")
    assert (
        "list.txt:1: 3 columns are ignored (number 1, fps, number 5); the columns in use are path, label, "
        in caplog.text
    )
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        index(tmp_path, "path,label,\na.mp4,run,\nb.mp4,jump,\n")
    assert not caplog.messages


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
        ("a.mp4 0\n\nc d.mp4 1\n", r"list.txt:3: 3 fields, 'c \\| d.mp4 \\| 1'; the first line has 2"),
        ("title,label\na.mp4,0\n", r"list.txt:1: columns title, label; exactly one must be called path"),
        (
            "a.mp4 0\nb.mp4 -1\n",
            r"list.txt:2: label '-1' is negative; labels are class names or numbers from 0: delete",
        ),
        (
            "my run/a.mp4 0\n",
            r"list.txt:1: num_frames is 'run/a.mp4'; it is a number from 0 or empty: correct it, and put",
        ),
        (
            "path,label,start_seconds,end_seconds\na.mp4,0,5,2\n",
            r"list.txt:2: the segment begins at 5 s and ends at 2 s",
        ),
        ("x.mp4 0\ny.mp4 0\n", r"none of the 2 files of .*list.txt is in .*media, such as x.mp4; give the folder"),
        ("a.mp4 0\n./a.mp4 1\n", r"list.txt:2: ./a.mp4 is 1, but in .*list.txt:1 0; a sample has one label: keep one"),
        (
            "path,label,split\na.mp4,0,test\n",
            r"lists nothing of split train; its split column has test \(1\): index one of these",
        ),
        ("nom,classe\na.mp4,run\nb.mp4,jump\n", r"list.txt:1: there is no file nom, so this looks like a header"),
        (
            "nom images classe\na.mp4 3 0\n",
            r"list.txt:1: num_frames is 'images'; .*: if this is a header, call its columns path",
        ),
        (
            "video,class_id,class_name\na.mp4,0,run\n",
            r"columns video, class_id, class_name; exactly one must be called l",
        ),
        (
            "label,youtube_id,time_start\nrun,a,0\n",
            r"must be called path; index lists of Kinetics with `cover index kinetic",
        ),
        ("path,label\na.mp4,\n", r"list.txt:2: the label is empty; every line needs one"),
        (
            "path,label,num_frames\na.mp4,0,16.5\n",
            r"list.txt:2: num_frames is '16.5'; it is a number from 0 or emp",
        ),
        ("path,label,start_seconds\na.mp4,0,inf\n", r"list.txt:2: start_seconds is 'inf'; it is a number from 0"),
        ("a.mp4 7\nb.mp4 007\n", r"list.txt: labels 007 and 7 are the same number; write each class in one way"),
        ("a\0.mp4 0\n", r"list.txt is not text, because it has NUL bytes; save it as UTF-8 text"),
        (
            "a.mp4" + " x" * 100_000 + "\n",
            r"list.txt:1: 100001 fields without a header, such as a.mp4, x, x; lines are",
        ),
        (
            "path,label" + ",x" * 100_000 + "\na.mp4,0\n",
            r"list.txt:2: 2 fields, 'a.mp4 \\| 0'; the first line has 100002",
        ),
        (
            'a.mp4,"' + "x" * 200_000 + '"\n',
            r"list.txt:1: 'a.mp4,\"xxx.*' cannot be read \(field larger than field limit",
        ),
    ],
)
def test_bad_lists_are_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        index(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_lists_that_are_no_utf_8_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    for content, reason in (
        ("a.mp4 0\n".encode("utf-16"), "it is UTF-16 text; save it as UTF-8"),
        ("caf\u00e9.mp4 0\n".encode("latin-1"), "it is not UTF-8 text; save it as UTF-8"),
    ):
        file.write_bytes(content)
        with pytest.raises(ManifestError, match=rf"list.txt cannot be read: {reason}"):
            index_annotations(file, kind="video", root=tmp_path, out=tmp_path, name="x", split="train")


def test_a_label_outside_given_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ManifestError, match=r"list.txt:2: label 'swim' is outside the 2 classes; labels are class names"
    ):
        index(tmp_path, "a.mp4 run\nb.mp4 swim\n", class_names=["jump", "run"])
    with pytest.raises(ManifestError, match=r"nowhere.csv does not exist"):
        index_annotations(tmp_path / "nowhere.csv", kind="video", root=".", out=".", name="x", split="train")


def test_lines_of_a_sample_are_its_classes_in_a_multi_label_list(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "list.csv").write_text("path,label,label_weight\na.mp4,run,\nb.mp4,jump,0.5\na.mp4,jump,0.25\n")
    manifest = index_annotations(
        tmp_path / "list.csv", kind="video", root=tmp_path, out=tmp_path, name="x", split="train", multi_label=True
    )
    assert manifest.is_multi_label and manifest.class_names == ("jump", "run")
    assert manifest.targets_of([0, 1]).tolist() == [[0.25, 1.0], [0.5, 0.0]]
    assert manifest.labels.tolist() == [1, 0]


def test_weights_of_labels_are_refused_in_a_list_of_one_class_each(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"list.txt:3: label_weight = 0.5 is for samples of several .*--multi"):
        index(tmp_path, "path,label,label_weight\na.mp4,run,\nb.mp4,jump,0.5\n")
