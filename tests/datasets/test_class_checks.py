from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from cover.datasets.location import LocatedSplit, Location, write_manifests
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError


def index(out: Path, class_names: list[str], splits: Mapping[str, list[int]]) -> list[Manifest]:
    located = {
        split: LocatedSplit(
            [Location(f"{split}/{row}.mp4", f"{split}/{row}.mp4") for row in range(len(labels))], labels
        )
        for split, labels in splits.items()
    }
    return write_manifests(located, class_names, root=out, kind="video", out=out, name="x")


def test_an_ordinary_dataset_is_indexed_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ["crane", "jump, high", "run, fast"]
    train, val = index(tmp_path, names, {"train": [0, 1, 2], "val": [1, 0, 2]})
    assert (train.labels.tolist(), val.labels.tolist()) == ([0, 1, 2], [1, 0, 2])
    assert not caplog.records


@pytest.mark.parametrize(
    ("class_names", "splits", "message"),
    [
        (["run"], {"train": [0, 0]}, "x: all samples have one class, run"),
        (["a", "b", "c", "d"], {"train": [1, 3]}, "x: 2 of 4 classes have no samples, such as a, c"),
        (["0", "1", "2"], {"train": [1, 2]}, "1 of 3 classes have no samples, such as 0; do the labels count from 1?"),
        (["a", "b"], {"train": [0, 0], "val": [0, 1]}, "x: 1 of 2 classes are in val and not in train, such as b"),
        (["a", "b"], {"train": [0, 1], "test": [1]}, "x: 1 of 2 classes are in train and not in test, such as a"),
        (["car", "train"], {"train": [0, 1]}, "x: 1 classes are named like splits (train); are they really class"),
        (["A", "a"], {"train": [0, 1]}, "x: 1 pairs of classes differ only in case, such as 'A' and 'a'"),
        (
            ["None", "nan", "run"],
            {"train": [0, 1, 1, 2]},
            "x: 3 samples have classes that may mean no label (None",
        ),
        (
            ["jump", "run,jump", "a,b", "run|jump"],
            {"train": [0, 1, 2, 3]},
            "2 classes look like several labels, such as r",
        ),
        (["01", "1", "2"], {"train": [0, 1, 2]}, "x: 1 numbers occur in several forms, such as 01 and 1; are t"),
        (
            [str(number) for number in range(100)],
            {"train": list(range(100))},
            "x: 100 samples have 100 classes; are the labels ids or captions?",
        ),
    ],
)
def test_what_is_odd_is_said_in_one_line(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    class_names: list[str],
    splits: Mapping[str, list[int]],
    message: str,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert index(tmp_path, class_names, splits)[0].class_names == tuple(class_names)
    assert len(caplog.messages) == 1 and message in caplog.messages[0]


@pytest.mark.parametrize(
    ("class_names", "splits", "message"),
    [
        (
            ["run", "run "],
            {"train": [0, 1]},
            r"classes of x differ only in spaces, .*: 'run' and 'run '; give each class",
        ),
        (["play guitar", "play_guitar"], {"train": [0], "val": [1]}, "differ only in spaces, underscores"),
        (["caf\u00e9", "cafe\u0301"], {"train": [0, 1]}, "differ only in spaces, underscores, case or Unicode form"),
        (["Run", "jump", "run"], {"train": [0, 1], "val": [2, 1]}, "'Run' and 'run'; give each class one name in all"),
        (
            ["train", "val"],
            {"train": [0, 1]},
            r"classes of x are named like splits \(train, val\); put class folders into",
        ),
        (["k400_train", "val-256"], {"train": [0, 1]}, r"are named like splits \(k400_train, val-256\)"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_written(
    tmp_path: Path, class_names: list[str], splits: Mapping[str, list[int]], message: str
) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        index(tmp_path / "out", class_names, splits)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_splits_that_are_indexed_one_by_one_must_agree(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    index(tmp_path, ["a", "b", "c"], {"train": [0, 1, 2]})
    with caplog.at_level(logging.WARNING):
        index(tmp_path, ["a", "b"], {"val": [0, 1]})
    assert "x-train.arrow has other classes, 3 instead of 2; index all splits with one class list" in caplog.text


def test_of_two_files_of_one_name_the_last_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    locations = [
        Location("run/a.mp4", "1.tar", 512, 3),
        Location("run/b.mp4", "1.tar", 2048, 3),
        Location("run/a.mp4", "2.tar", 0, 4),
    ]
    with caplog.at_level(logging.WARNING):
        (manifest,) = write_manifests(
            {"train": LocatedSplit(locations, [0, 1, 0])},
            ["a", "b"],
            root=tmp_path,
            kind="video",
            out=tmp_path,
            name="x",
        )
    assert [(row.sample_id, row.path) for row in manifest] == [("run/b.mp4", "1.tar"), ("run/a.mp4", "2.tar")]
    assert "x train: 1 samples occur twice, as files or in tars, such as run/a.mp4" in caplog.text
