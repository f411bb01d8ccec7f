from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.layouts.predictions import index_predictions
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError
from cover.inference.prediction import Prediction
from cover.inference.prediction_files import predictions_file

Put = Callable[[Path, Mapping[str, int]], Path]


@pytest.fixture
def like(tmp_path: Path, put: Put) -> Manifest:
    files = {"train/run/a.mp4": 1, "train/jump/b.mp4": 2}
    return index_folder(put(tmp_path / "k400", files), kind="video", out=tmp_path)[0]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_files_that_the_teacher_is_sure_about_are_kept(suffix: str, like: Manifest, tmp_path: Path, put: Put) -> None:
    put(tmp_path, {"web/1.jpg": 1, "web/2.jpg": 2, "web/3.mp4": 3})
    answers = {"1.jpg": ("run", 0.9), "2.jpg": ("jump", 0.4), "3.mp4": ("jump", 0.8), "gone.jpg": ("jump", 0.7)}
    with predictions_file(tmp_path / f"web{suffix}") as write:
        for name, (class_name, probability) in answers.items():
            ranked = ((class_name, probability), ("other", 1 - probability))
            heads = {"k400": ranked, "mine": (("7", 1.0),)}
            write(Prediction(Path("web") / name, "video" if name.endswith("mp4") else "image", heads))
    source = tmp_path / f"web{suffix}"
    manifest = index_predictions(source, kind="image", like=like, head="k400", out=tmp_path, name="web", root=tmp_path)
    assert [(row.sample_id, manifest.classes_of(row)) for row in manifest] == [("web/1.jpg", ("run",))]
    assert manifest.class_names == like.class_names and manifest.kind == "image"
    assert "web/gone.jpg" in (tmp_path / "web-train.missing.txt").read_text()
    with pytest.raises(ManifestError, match="has predictions of the heads k400, mine; choose one with --head"):
        index_predictions(source, kind="image", like=like, out=tmp_path, name="web", root=tmp_path)
    with pytest.raises(ManifestError, match=r"7, the class of web/1.jpg, is none of .*-train.arrow; name a manifest"):
        index_predictions(source, kind="image", like=like, head="mine", out=tmp_path, name="web", root=tmp_path)
    with pytest.raises(ManifestError, match=r"no video of .* is left; lower --min-probability"):
        index_predictions(
            source, kind="video", like=like, head="k400", min_probability=0.9, out=tmp_path, name="w", root=tmp_path
        )


def test_other_files_are_refused(like: Manifest, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,label\nrun/a.mp4,0\n")
    (tmp_path / "a.jsonl").write_text("[]\n")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        with pytest.raises(ManifestError, match=r"cannot be read as predictions .*write it with `cover predict --out`"):
            index_predictions(tmp_path / name, kind="video", like=like, out=tmp_path, name="a")
    line = '{"file": "a.jpg", "kind": "image", "heads": {"k400": [{"class": "run", "probability": 0.9}]}}\n'
    (tmp_path / "images.jsonl").write_text(line)
    with pytest.raises(ManifestError, match="has no predictions of videos; choose the other --kind"):
        index_predictions(tmp_path / "images.jsonl", kind="video", like=like, out=tmp_path, name="a")
