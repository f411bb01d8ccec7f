"""Training samples that occur in an evaluation split, from manifests to the list that recipes name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.curation.scenes import scene, write_frames

from cover.curation.dataset_pass import Pool
from cover.curation.leaks import find_leaks, num_leaking, write_leaks
from cover.datasets.exclusion import read_exclusions, without_excluded
from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest, write_manifest
from cover.errors import CoverError


def manifest_of(folder: Path, name: str, split: str, rows: list[dict[str, Any]]) -> Manifest:
    samples = [{"sample_id": row["path"], "label": 0} | row for row in rows]
    path = folder / f"{name}-{split}.arrow"
    return write_manifest(path, samples, name=name, kind="video", split=split, class_names=["a"], root=folder / name)


@pytest.fixture
def manifests(tmp_path: Path) -> list[Manifest]:
    """Two datasets; one is cut from the other's videos."""
    names = [f"{'abcd'[number]}bcdefghijk_0000{10 * number:02}_0000{10 * number + 10}.mp4" for number in range(4)]
    moments: list[dict[str, Any]] = [
        {"path": "1.mp4", "source_id": names[0][:11], "source_start_seconds": 4.0, "source_end_seconds": 7.0},
        {"path": "2.mp4", "source_id": names[1][:11], "source_start_seconds": 90.0, "source_end_seconds": 93.0},
        {"path": "3.mp4", "source_id": names[2][:11]},
    ]
    return [
        manifest_of(tmp_path, "kinetics", "train", [{"path": name} for name in names[:3]]),
        manifest_of(tmp_path, "kinetics", "test", [{"path": names[3]}]),
        manifest_of(tmp_path, "moments", "train", [{"path": "4.mp4"}]),
        manifest_of(tmp_path, "moments", "val", moments),
    ]


def test_leaks_are_told_by_dataset_and_reason_and_can_be_left_out(manifests: list[Manifest], tmp_path: Path) -> None:
    leaks = find_leaks(manifests, pool=None)
    assert [(some.train.name, some.evaluation.name, some.reason, list(some.pairs())) for some in leaks] == [
        ("kinetics", "moments", "same source, overlapping", [(manifests[0][0].sample_id, "moments-val/1.mp4")]),
        ("kinetics", "moments", "same source, time unknown", [(manifests[0][2].sample_id, "moments-val/3.mp4")]),
    ]
    assert num_leaking([*leaks, *leaks]) == {"kinetics": 2}
    write_leaks(tmp_path / "leaks.csv", leaks)
    rest = [without_excluded(manifest, read_exclusions([tmp_path / "leaks.csv"])) for manifest in manifests]
    assert list(rest[0]) == [manifests[0][1]]
    assert [len(manifest) for manifest in rest] == [1, 1, 1, 3]


def test_leaks_are_of_training_splits_into_others(manifests: list[Manifest]) -> None:
    for some, missing in ((manifests[:1], "val or test"), (manifests[1:2], "training")):
        with pytest.raises(CoverError, match=f"there is no {missing} manifest"):
            find_leaks(some, pool=None)


def test_clips_that_look_alike_leak(tmp_path: Path) -> None:
    pytest.importorskip("imagehash")
    for number in range(4):
        write_frames(tmp_path / "ours" / "train" / "class" / f"{number}.mp4", scene(number))
        write_frames(tmp_path / "theirs" / "val" / "class" / f"{number}.mp4", scene(2 + number), quality=30)
    manifests = [index_folder(tmp_path / name, kind="video", out=tmp_path)[0] for name in ("ours", "theirs")]
    (leaks,) = find_leaks(manifests, Pool(num_processes=1))
    assert leaks.reason == "similar frames"
    assert list(leaks.pairs()) == [
        ("train/class/2.mp4", "theirs-val/val/class/0.mp4"),
        ("train/class/3.mp4", "theirs-val/val/class/1.mp4"),
    ]
