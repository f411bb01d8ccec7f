from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cover.datasets.layouts.moments import index_moments, index_multi_moments
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]


def annotate(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "moments_categories.txt").write_text("blocking,1\nadult+female+singing,0\n")
    (folder / "trainingSet.csv").write_text(
        "blocking/getty-karate-video-id635808620_4.mp4,blocking,3,0\n"
        "adult+female+singing/yt-5of6ffo6-Bw_205.mp4,adult+female+singing,4,1\n"
    )
    (folder / "validationSet.csv").write_text("blocking/vimeo-1_2.mp4,blocking,3,0\n")


def index(root: Path) -> dict[str, Manifest]:
    return {manifest.split: manifest for manifest in index_moments(root, out=root.parent / "out")}


@pytest.mark.parametrize("ending", [".mp4", "/"], ids=["videos", "frames"])
def test_trees_as_they_are_distributed(tmp_path: Path, put: Put, shown: Shown, ending: str) -> None:
    names = [
        "training/blocking/getty-karate-video-id635808620_4",
        "training/adult+female+singing/yt-5of6ffo6-Bw_205",
        "validation/blocking/vimeo-1_2",
    ]
    root = put(tmp_path / "Moments", {f"{name}{ending}": number for number, name in enumerate(names)})
    annotate(root)
    manifests = index(root)
    train, val = manifests["train"], manifests["val"]
    assert shown(train) == {
        "blocking/getty-karate-video-id635808620_4.mp4": 0,
        "adult+female+singing/yt-5of6ffo6-Bw_205.mp4": 1,
    }
    assert shown(val) == {"blocking/vimeo-1_2.mp4": 2}
    assert train.class_names == val.class_names == ("adult+female+singing", "blocking")
    assert (train.labels.tolist(), val.labels.tolist()) == ([1, 0], [1])
    assert [row.source_id for row in train] == ["getty-karate-video-id635808620", "5of6ffo6-Bw"]


def test_missing_videos_are_listed(tmp_path: Path, put: Put) -> None:
    root = put(tmp_path / "Moments", {"training/blocking/getty-karate-video-id635808620_4.mp4": 0})
    annotate(root / "annotations")
    assert [len(manifest) for manifest in index(root).values()] == [1]
    assert (tmp_path / "out/mit-val.missing.txt").read_text() == "blocking/vimeo-1_2.mp4\tblocking\n"


def test_mistakes_are_refused_in_one_line(tmp_path: Path, put: Put) -> None:
    root = put(tmp_path / "Moments", {"a.mp4": 0})
    with pytest.raises(ManifestError, match=r"moments_categories.txt .*Moments.*; give .* with --annotations"):
        index(root)
    annotate(root)
    with (root / "trainingSet.csv").open("a") as file:
        file.write("blocking/b.mp4\n")
    with pytest.raises(
        ManifestError, match=r"trainingSet.csv:3: 'blocking/b.mp4' has no label; download the file again"
    ):
        index(root)


@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_multi_moments_have_all_their_classes(tmp_path: Path, put: Put, shown: Shown, suffix: str) -> None:
    root = put(tmp_path / "Multi", {"videos/blocking/yt-zxQfALnTdfc_56.mp4": 1, "videos/singing/b_2.mp4": 2})
    (root / "moments_categories.txt").write_text("blocking,0\nadult+female+singing,2\nsinging,1\n")
    (root / f"trainingSet{suffix}").write_text("blocking/yt-zxQfALnTdfc_56.mp4,2,0,2\n")
    (root / f"validationSet{suffix}").write_text("singing/b_2.mp4,1\n")
    train, val = index_multi_moments(root, out=tmp_path)
    assert (shown(train), shown(val)) == ({"blocking/yt-zxQfALnTdfc_56.mp4": 1}, {"singing/b_2.mp4": 2})
    assert train.class_names == ("blocking", "singing", "adult+female+singing")
    assert (train[0].labels, train[0].source_id, val[0].labels) == ([2, 0], "zxQfALnTdfc", [1])
    (root / f"trainingSet{suffix}").write_text("blocking/yt-zxQfALnTdfc_56.mp4,7\n")
    with pytest.raises(ManifestError, match=r"trainingSet\..* does not have its published form \(7\)"):
        index_multi_moments(root, out=tmp_path)
