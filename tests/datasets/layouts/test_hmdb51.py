from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cover.datasets.layouts.hmdb51 import index_hmdb51
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]

CLIPS = ["brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0", "brush_hair/#20_Rhythm_brush_hair_h_nm_np1_le_goo_1"]
CLIPS += ["eat/AmericanGangster_eat_u_nm_np1_fr_med_38", "eat/prelinger_eat_u_nm_np1_fr_bad_2"]


def annotate(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, marks in ((1, "1211"), (2, "2100"), (3, "0000")):
        lists: dict[str, str] = {}
        for clip, mark in zip(CLIPS, marks, strict=True):
            label, name = clip.split("/")
            lists[label] = lists.get(label, "") + f"{name}.avi {mark} \n"
        for label, text in lists.items():
            (folder / f"{label}_test_split{number}.txt").write_text(text)


@pytest.mark.parametrize("ending", [".avi", "/"], ids=["videos", "frames"])
def test_the_published_splits(tmp_path: Path, put: Put, shown: Shown, ending: str) -> None:
    root = put(tmp_path / "hmdb", {f"{clip}{ending}": number for number, clip in enumerate(CLIPS)})
    annotate(root / "testTrainMulti_7030_splits")
    train, test = index_hmdb51(root, out=tmp_path / "out")
    assert (train.path.name, test.path.name) == ("hmdb51-split1-train.arrow", "hmdb51-split1-test.arrow")
    assert shown(train) == {CLIPS[0]: 0, CLIPS[2]: 2, CLIPS[3]: 3}
    assert shown(test) == {CLIPS[1]: 1}
    assert train.class_names == test.class_names == ("brush hair", "eat")
    assert [(row.label, row.source_id) for row in train] == [
        (0, "April_09"),
        (1, "AmericanGangster"),
        (1, "prelinger"),
    ]
    train, test = index_hmdb51(root, out=tmp_path / "out", split_number=2, name="hmdb")
    assert (shown(train), shown(test)) == ({CLIPS[1]: 1}, {CLIPS[0]: 0})


def test_missing_lists_are_named(tmp_path: Path, put: Put) -> None:
    root = put(tmp_path / "hmdb", {"eat/a.avi": 1})
    with pytest.raises(ManifestError, match=r"\*_test_split1.txt is not in .*hmdb.*; give .* with --annotations"):
        index_hmdb51(root, out=tmp_path / "out")
