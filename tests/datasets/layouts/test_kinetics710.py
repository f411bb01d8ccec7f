from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.layouts.kinetics import index_kinetics
from cover.datasets.layouts.kinetics710 import index_kinetics710
from cover.datasets.manifest import Manifest
from cover.datasets.names import RENAMED_CLASSES
from cover.errors import ManifestError

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]


def edition(root: Path, put: Put, name: str, clips: Mapping[tuple[str, str, str], int], out: Path) -> list[Path]:
    """Manifests of an edition: clips are (split, YouTube id, class) → the number that they show."""
    put(root / name, {f"{split}/{video}_000001_000011.mp4": number for (split, video, _), number in clips.items()})
    for split in {split for split, *_ in clips}:
        lines = [f"{label},{video},1,11,{split}\n" for (own, video, label) in clips if own == split]
        (root / name / f"{split}.csv").write_text("label,youtube_id,time_start,time_end,split\n" + "".join(lines))
    return [manifest.path for manifest in index_kinetics(root / name, out=out, name=name)]


def test_editions_are_merged_by_video_without_leaks(
    tmp_path: Path, put: Put, shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    k700 = {
        ("train", "both_______", "sipping cup"): 1,
        ("train", "new________", "yoga"): 2,
        ("train", "leaks______", "yoga"): 3,
        ("val", "val700_____", "yoga"): 4,
    }
    k400 = {
        ("train", "both_______", "drinking"): 5,
        ("train", "old________", "cleaning floor"): 6,
        ("train", "val700_____", "yoga"): 7,
        ("val", "leaks______", "yoga"): 8,
    }
    manifests = [
        *edition(tmp_path / "data", put, "k700", k700, tmp_path),
        *edition(tmp_path / "data", put, "k400", k400, tmp_path),
    ]
    with caplog.at_level(logging.WARNING):
        merged = {manifest.split: manifest for manifest in index_kinetics710(manifests, out=tmp_path)}
    train, val = merged["train"], merged["val"]
    assert train.class_names == val.class_names == ("cleaning floor", "sipping cup", "yoga")
    assert {row.source_id: train.class_names[row.label] for row in train} == {
        "both_______": "sipping cup",
        "new________": "yoga",
        "old________": "cleaning floor",
    }
    assert sorted(shown(train).values()) == [1, 2, 6] and sorted(shown(val).values()) == [4, 8]
    assert (
        "k710 train: 1 clips are left out as videos that occur already, and 2 as videos of a val or test" in caplog.text
    )


def test_renamed_classes_have_the_names_of_kinetics_700() -> None:
    assert not set(RENAMED_CLASSES) & set(RENAMED_CLASSES.values())
    assert len(set(RENAMED_CLASSES.values())) == len(RENAMED_CLASSES)


def test_other_manifests_are_refused(tmp_path: Path, put: Put) -> None:
    (manifest,) = index_folder(put(tmp_path / "mine", {"run/a.mp4": 1, "jump/b.mp4": 2}), kind="video", out=tmp_path)
    with pytest.raises(ManifestError, match=r"mine-train.arrow has samples without source_id, their YouTube id"):
        index_kinetics710([manifest.path], out=tmp_path)
    val = [path for path in edition(tmp_path, put, "k", {("val", "a__________", "yoga"): 1}, tmp_path)]
    with pytest.raises(ManifestError, match="none of the manifests is a training split"):
        index_kinetics710(val, out=tmp_path)
