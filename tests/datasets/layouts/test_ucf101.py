from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cover.datasets.layouts.ucf101 import index_ucf101
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]

LISTS = {
    "classInd.txt": "1 ApplyEyeMakeup\r\n2 Archery\r\n",
    "trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nArchery/v_Archery_g08_c02.avi 2\r\n",
    "testlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\r\n",
    "trainlist02.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1\r\n",
    "testlist02.txt": "Archery/v_Archery_g08_c02.avi\r\n",
}
CLIPS = ["ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01", "Archery/v_Archery_g08_c02"]
CLIPS += ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01"]


def annotate(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in LISTS.items():
        (folder / name).write_text(text)


@pytest.mark.parametrize(("folder", "ending"), [("UCF-101/", ".avi"), ("videos/", ".mp4"), ("rawframes/", "/")])
def test_the_published_splits(tmp_path: Path, put: Put, shown: Shown, folder: str, ending: str) -> None:
    root = put(tmp_path / "ucf", {f"{folder}{clip}{ending}": number for number, clip in enumerate(CLIPS)})
    annotate(root / "ucfTrainTestlist")
    train, test = index_ucf101(root, out=tmp_path / "out")
    assert (train.path.name, test.path.name) == ("ucf101-split1-train.arrow", "ucf101-split1-test.arrow")
    assert shown(train) == {"v_ApplyEyeMakeup_g08_c01": 0, "v_Archery_g08_c02": 1}
    assert shown(test) == {"v_ApplyEyeMakeup_g01_c01": 2}
    assert train.class_names == test.class_names == ("ApplyEyeMakeup", "Archery")
    assert train.labels.tolist() == [0, 1]
    assert [row.source_id for row in train] == ["v_ApplyEyeMakeup_g08", "v_Archery_g08"]
    train, test = index_ucf101(root, out=tmp_path / "out", split_number=2)
    assert train.name == "ucf101-split2" and shown(train) == {"v_ApplyEyeMakeup_g01_c01": 2}


def test_missing_lists_are_named(tmp_path: Path, put: Put) -> None:
    root = put(tmp_path / "ucf", {"UCF-101/Archery/v_Archery_g08_c02.avi": 1})
    annotate(tmp_path / "lists")
    with pytest.raises(ManifestError, match=r"classInd.txt is not in .*ucf.*; give .* with --annotations"):
        index_ucf101(root, out=tmp_path / "out")
    with pytest.raises(ManifestError, match=r"trainlist03.txt is not in .*lists; "):
        index_ucf101(root, out=tmp_path / "out", split_number=3, annotations=tmp_path / "lists")
