from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cover.datasets.layouts.charades import index_charades
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]

COLUMNS = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
TRAIN = (
    '46GP8,HR43,Kitchen,6,7,Yes,"A person, cooking.",food;stove,"Eats; cooks.",c092 11.90 21.20;c000 0.00 12.60,24.83\n'
    "N11GT,0KZ7,Den,5,7,Yes,Sits.,chair,Sits.,,18.33\n"
)
VAL = "YSKX3,BXA3,Bed,7,7,Yes,Sleeps.,bed,Sleeps.,c001 0.00 3.10;c001 5.00 6.00;c000 1.00 2.00,31.00\n"
CLASSES = "c000 Holding some clothes\nc001 Putting clothes somewhere\nc092 Watching a window\n"


def annotate(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Charades_v1_train.csv").write_text(COLUMNS + TRAIN)
    (folder / "Charades_v1_test.csv").write_text(COLUMNS + VAL)
    (folder / "Charades_v1_classes.txt").write_text(CLASSES)


@pytest.mark.parametrize(
    "files",
    [
        {"Charades_v1_480/46GP8.mp4": 1, "Charades_v1_480/YSKX3.mp4": 2},
        {"Charades_v1_rgb/46GP8/": 1, "Charades_v1_rgb/YSKX3/": 2},
    ],
    ids=["videos", "frames"],
)
def test_videos_have_the_set_of_their_actions(
    tmp_path: Path, put: Put, shown: Shown, files: Mapping[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    root = put(tmp_path / "Charades", files)
    annotate(root / "Charades")
    with caplog.at_level(logging.WARNING):
        train, val = index_charades(root, out=tmp_path)
    assert (train.split, shown(train), val.split, shown(val)) == ("train", {"46GP8": 1}, "val", {"YSKX3": 2})
    assert train.class_names == ("Holding some clothes", "Putting clothes somewhere", "Watching a window")
    assert train.is_multi_label and (train[0].labels, val[0].labels) == ([2, 0], [1, 0])
    assert "charades train: 1 videos have no action and are left out" in caplog.text


def test_damaged_lists_are_refused(tmp_path: Path, put: Put) -> None:
    root = put(tmp_path / "Charades", {"46GP8.mp4": 1})
    annotate(root)
    with (root / "Charades_v1_train.csv").open("a") as file:
        file.write("ABCDE,HR43\n")
    with pytest.raises(ManifestError, match=r"Charades_v1_train.csv:4: fields are missing; download the file again"):
        index_charades(root, out=tmp_path)
    (root / "Charades_v1_train.csv").write_text("id,label\na,b\n")
    with pytest.raises(ManifestError, match=r"Charades_v1_train.csv has no column actions; download the file again"):
        index_charades(root, out=tmp_path)
    annotate(root)
    (root / "Charades_v1_classes.txt").write_text("c000 Holding some clothes\n")
    with pytest.raises(ManifestError, match=r"'c092', the class of charades's 46GP8, is not among its 1 classes"):
        index_charades(root, out=tmp_path)
