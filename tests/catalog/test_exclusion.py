from __future__ import annotations

from pathlib import Path

import pytest

from cover.catalog.exclusion import read_exclusions, without_excluded, write_exclusions
from cover.catalog.manifest import Manifest, ManifestRow, write_manifest
from cover.errors import ManifestError


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """The training split of `clips`: samples 001, 002 and 003."""
    rows = [ManifestRow(f"00{number}", f"{number}.mp4", 0) for number in (1, 2, 3)]
    about = {"name": "clips", "kind": "video", "split": "train", "class_names": ["a"], "root": tmp_path}
    return write_manifest(tmp_path / "clips.arrow", rows, **about)  # type: ignore[arg-type]


def test_listed_samples_of_the_dataset_and_split_are_left_out(manifest: Manifest, tmp_path: Path) -> None:
    write_exclusions(tmp_path / "leaks.csv", [("clips", "train", "002", "similar frames", 'a "b", c')])
    (tmp_path / "mine.csv").write_text("split,sample_id,dataset\ntrain,001,other\nval,003,clips\ntrain,gone,clips\n")
    excluded = read_exclusions([tmp_path / "leaks.csv", tmp_path / "mine.csv"])
    rest = without_excluded(manifest, excluded)
    assert [row.sample_id for row in rest] == ["001", "003"] and rest.num_excluded == 1
    assert list(without_excluded(manifest, read_exclusions([]))) == list(manifest)


def test_a_list_of_leaks_may_be_empty(manifest: Manifest, tmp_path: Path) -> None:
    write_exclusions(tmp_path / "leaks.csv", [])
    assert len(without_excluded(manifest, read_exclusions([tmp_path / "leaks.csv"]))) == 3


def test_a_list_for_another_copy_of_the_dataset_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("dataset,split,sample_id\nclips,train,run/1.mp4\nclips,train,run/2.mp4\n")
    with pytest.raises(
        ManifestError,
        match=r"clips\.arrow has none of the 2 excluded samples of clips train, as run/1\.mp4; make the list anew",
    ):
        without_excluded(manifest, read_exclusions([tmp_path / "mine.csv"]))


@pytest.mark.parametrize("content", ["", "sample_id\n001\n", "dataset,split,sample_id\nclips,001\n"])
def test_what_is_no_list_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(content)
    with pytest.raises(ManifestError, match=r"list\.csv is not an exclusion list \(.*CSV with the columns dataset, sp"):
        read_exclusions([path])


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"gone\.csv does not exist; `cover check --leaks` writes it"):
        read_exclusions([tmp_path / "gone.csv"])
