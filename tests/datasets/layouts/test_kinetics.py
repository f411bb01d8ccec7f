from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cover.datasets.layouts.kinetics import index_kinetics
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]

HEADER = "label,youtube_id,time_start,time_end,split\n"
TRAIN = HEADER + (
    "playing trumpet,0wR5jVB-WPk,417,427,train\n"
    '"massaging person\'s head",_aBcDeFgHi-,0,10,train\n'
    "passing American football (in game),---0dWlqevI,19,29,train\n"
)
VAL = HEADER + "playing trumpet,zzzzzzzzzzz,3,13,validate\nplaying trumpet,goneGONE123,5,15,validate\n"


def annotate(folder: Path, **lists: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in lists.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def index(root: Path, **options: Path) -> dict[str, Manifest]:
    return {manifest.split: manifest for manifest in index_kinetics(root, out=root.parent / "out", name="k", **options)}


@pytest.mark.parametrize(
    "files",
    [
        {
            "train/playing trumpet/0wR5jVB-WPk_000417_000427.mp4": 1,
            "train/massaging person's head/_aBcDeFgHi-_000000_000010.mp4": 2,
            "train/passing American football (in game)/---0dWlqevI_000019_000029.mp4": 3,
            "val/playing trumpet/zzzzzzzzzzz_000003_000013.mp4": 4,
        },
        {
            "videos_train/playing_trumpet/0wR5jVB-WPk_000417_000427.mp4": 1,
            "videos_train/massaging_persons_head/_aBcDeFgHi-.mp4": 2,
            "videos_train/passing_American_football_(in_game)/---0dWlqevI_000019_000029.webm": 3,
            "videos_val/playing_trumpet/zzzzzzzzzzz.mp4": 4,
        },
        {
            "train/0wR5jVB-WPk_000417_000427.mp4": 1,
            "train/_aBcDeFgHi-_000000_000010.mp4": 2,
            "train/---0dWlqevI_000019_000029.mp4": 9,
            "replacement/replacement_for_corrupted_k400/---0dWlqevI_000019_000029.mp4": 3,
            "val/zzzzzzzzzzz_000003_000013.mp4": 4,
        },
        {
            "rawframes_train/playing_trumpet/0wR5jVB-WPk_000417_000427/": 1,
            "rawframes_train/massaging_person's_head/_aBcDeFgHi-_000000_000010/": 2,
            "rawframes_train/passing_American_football_(in_game)/---0dWlqevI_000019_000029/": 3,
            "rawframes_val/playing_trumpet/zzzzzzzzzzz_000003_000013/": 4,
        },
    ],
    ids=["class folders", "underscores and ids", "CVDF", "frames"],
)
def test_trees_as_they_are_distributed(tmp_path: Path, put: Put, shown: Shown, files: Mapping[str, int]) -> None:
    root = put(tmp_path / "k", files)
    annotate(root / "annotations", train=TRAIN, val=VAL)
    manifests = index(root)
    assert shown(manifests["train"]) == {
        "0wR5jVB-WPk_000417_000427": 1,
        "_aBcDeFgHi-_000000_000010": 2,
        "---0dWlqevI_000019_000029": 3,
    }
    assert shown(manifests["val"]) == {"zzzzzzzzzzz_000003_000013": 4}
    names = ("massaging person's head", "passing American football (in game)", "playing trumpet")
    assert {manifest.class_names for manifest in manifests.values()} == {names}
    assert [row.label for row in manifests["train"]] == [2, 0, 1]


def test_the_source_is_known_by_id_and_times_and_the_file_is_the_whole_clip(tmp_path: Path, put: Put) -> None:
    root = put(tmp_path / "k", {"0wR5jVB-WPk_000417_000427.mp4": 1})
    row = index(annotate(root, train=TRAIN))["train"][0]
    assert (row.source_id, row.source_start_seconds, row.source_end_seconds) == ("0wR5jVB-WPk", 417.0, 427.0)
    assert (row.start_seconds, row.end_seconds, row.path) == (None, None, "0wR5jVB-WPk_000417_000427.mp4")


def test_tars_of_clips(tmp_path: Path, put: Put, shown: Shown, tar_of: Callable[[Path, Path], Path]) -> None:
    root = annotate(tmp_path / "k", train=TRAIN)
    for number, name in ((1, "0wR5jVB-WPk_000417_000427.mp4"), (2, "playing trumpet/_aBcDeFgHi-_000000_000010.mp4")):
        tar_of(root / f"part_{number}.tar", put(tmp_path / "loose", {name: number}))
    manifest = index(root)["train"]
    assert shown(manifest) == {"0wR5jVB-WPk_000417_000427": 1, "_aBcDeFgHi-_000000_000010": 2}
    assert [row.path for row in manifest] == ["part_1.tar", "part_2.tar"]


def test_missing_clips_are_counted_and_listed(tmp_path: Path, put: Put, caplog: pytest.LogCaptureFixture) -> None:
    root = annotate(put(tmp_path / "k", {"val/zzzzzzzzzzz_000003_000013.mp4": 1}), train=TRAIN, val=VAL)
    with caplog.at_level(logging.WARNING):
        manifests = index(root)
    assert list(manifests) == ["val"], "no manifest of a split that is not there"
    assert "k val: 1 of 2 listed samples are missing (50.0 %), such as goneGONE123_000005_000015" in caplog.text
    assert "k train: 3 of 3 listed samples are missing (100.0 %)" in caplog.text
    assert (tmp_path / "out/k-val.missing.txt").read_text() == "goneGONE123_000005_000015\tplaying trumpet\n"
    put(root, {"val/goneGONE123_000005_000015.mp4": 2})
    assert len(index(root)["val"]) == 2
    assert not (tmp_path / "out/k-val.missing.txt").exists()


def test_of_files_with_one_name_the_one_in_the_right_folders_is_taken(tmp_path: Path, put: Put, shown: Shown) -> None:
    lines = "cooking,aaaaaaaaaaa,0,10,train\nplaying trumpet,aaaaaaaaaaa,0,10,val\n"
    files = {"val/playing_trumpet/aaaaaaaaaaa.mp4": 1, "train/playing_trumpet/aaaaaaaaaaa.mp4": 2}
    root = annotate(put(tmp_path / "k", files | {"train/cooking/aaaaaaaaaaa.mp4": 3}), both=HEADER + lines)
    manifests = index(root)
    assert [*shown(manifests["train"]).values(), *shown(manifests["val"]).values()] == [3, 1]


def test_lists_by_other_names_and_without_labels(tmp_path: Path, put: Put, caplog: pytest.LogCaptureFixture) -> None:
    root = put(tmp_path / "k", {"0wR5jVB-WPk.mp4": 1, "zzzzzzzzzzz.mp4": 2})
    lists = annotate(
        tmp_path / "lists",
        **{
            "kinetics-400_train": "label,youtube_id,time_start,time_end\nplaying trumpet,0wR5jVB-WPk,417.0,427.0\n",
            "kinetics-400_val": "label,youtube_id,time_start,time_end,is_cc\nplaying trumpet,zzzzzzzzzzz,3,13,0\n",
            "kinetics-400_test": "youtube_id,time_start,time_end,split\nqqqqqqqqqqq,3,13,test\n",
            "unrelated": "a,b\n1,2\n",
        },
    )
    (lists / "train_too.txt").write_text(TRAIN.splitlines()[0] + "\n" + TRAIN.splitlines()[1] + "\n")
    manifests = index(root, annotations=lists)
    assert {split: [row.sample_id for row in manifest] for split, manifest in manifests.items()} == {
        "train": ["0wR5jVB-WPk_000417_000427"],
        "val": ["zzzzzzzzzzz_000003_000013"],
    }
    assert "k train: 1 lines repeat a sample" in caplog.text
    assert (
        "k: 2 files have no columns label, youtube_id, time_start and time_end and are skipped, such as " in caplog.text
    )
    assert "such as kinetics-400_test.csv, unrelated.csv" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace("label,youtube_id", "Label,YouTube_ID"),
        lambda text: text.replace("\n", ",\r\n"),
    ],
)
def test_lists_that_other_programs_have_saved(tmp_path: Path, put: Put, change: Callable[[str], str]) -> None:
    root = put(tmp_path / "k", {"0wR5jVB-WPk.mp4": 1, "---0dWlqevI.mp4": 2, "zzzzzzzzzzz.mp4": 3})
    manifests = index(annotate(root, train=change(TRAIN), val=VAL))
    assert [(row.source_id, row.label) for row in manifests["train"]] == [("0wR5jVB-WPk", 2), ("---0dWlqevI", 1)]
    assert [row.source_id for row in manifests["val"]] == ["zzzzzzzzzzz"]


def test_mistakes_are_refused_in_one_line(tmp_path: Path, put: Put) -> None:
    root = put(tmp_path / "k", {"other.mp4": 1})
    with pytest.raises(ManifestError, match=r"no CSV file has the columns label, youtube_id.* with --annotations"):
        index(root)
    with pytest.raises(
        ManifestError, match="nowhere is not a folder; give the folder that contains the annotation files"
    ):
        index(root, annotations=tmp_path / "nowhere")
    lists = annotate(tmp_path / "lists", train=TRAIN)
    with pytest.raises(
        ManifestError, match=r"none of the 3 videos in k's annotation is in .*k, such as 0wR5jVB-WPk_000417_000427; "
    ):
        index(root, annotations=lists)
    annotate(lists, train=HEADER + "cooking,aaaaaaaaaaa,zero,10,train\n")
    with pytest.raises(
        ManifestError, match=r"train.csv:2: a field is missing, or a time is not a number; download the file again"
    ):
        index(root, annotations=lists)
    annotate(lists, train=HEADER + "cooking,aaaaaaaaaaa,0,10,holdout\n")
    with pytest.raises(ManifestError, match=r"train.csv:2: split is 'holdout'; it must be train, val, test or empty"):
        index(root, annotations=lists)
    with pytest.raises(ManifestError, match="elsewhere is not a folder; give the folder that contains the videos"):
        annotate(lists, train=TRAIN)
        index(tmp_path / "elsewhere", annotations=lists)
    assert not list((tmp_path).glob("out/*.arrow"))
