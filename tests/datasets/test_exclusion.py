from __future__ import annotations

import os
from pathlib import Path

import pytest

from cover.datasets.exclusion import read_exclusions, without_excluded, write_exclusions
from cover.datasets.manifest import Manifest, ManifestRow, write_manifest
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
        match=r"clips\.arrow has none of the 2 excluded samples of clips train, such as run/1\.mp4; make the list",
    ):
        without_excluded(manifest, read_exclusions([tmp_path / "mine.csv"]))


def test_a_list_that_partly_fits_is_used_with_a_warning(
    manifest: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mine.csv").write_text("dataset,split,sample_id\nclips,train,001\nclips,train,001\nclips,train,gone\n")
    assert len(without_excluded(manifest, read_exclusions([tmp_path / "mine.csv"]))) == 2
    assert caplog.messages == [
        f"1 of 2 excluded samples of clips train are not in {manifest.path}; was the list made for another copy?"
    ]


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffdataset,split,sample_id\r\nclips, train,001\r\n".encode(),
        b"\ndataset;split;sample_id\nclips;train;001\n",
        b"sample_id\tdataset\tsplit\n001\tclips\ttrain \n",
    ],
    ids=["byte order mark and CRLF", "semicolons", "tabs"],
)
def test_lists_are_read_as_spreadsheets_write_them(manifest: Manifest, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.csv").write_bytes(content)
    rest = without_excluded(manifest, read_exclusions([tmp_path / "mine.csv"]))
    assert [row.sample_id for row in rest] == ["002", "003"]


def test_any_sample_id_survives_being_written(tmp_path: Path) -> None:
    ids = ["=1+1", "-x", "+x", "@x", "a\nb", 'a"b', "a,b", " a ", "café"]
    write_exclusions(tmp_path / "leaks.csv", [("clips", "train", sample_id, "", "") for sample_id in ids])
    assert read_exclusions([tmp_path / "leaks.csv"])["sample_id"].to_pylist() == ids


def test_what_never_ends_is_no_list(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for path, what in ((tmp_path / "pipe.csv", "pipe"), (Path("/dev/zero"), "device")):
        with pytest.raises(ManifestError, match=rf"is not an exclusion list \(it is a {what}, not a file\)"):
            read_exclusions([path])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "sample_id\n001\n",
        "dataset,split,sample_id\nclips,001\n",
        b"\xff\xfed\0a\0t\0",
        b"dataset,split,sample_id\nclips,train,caf\xe9\n",
        bytes(1000),
    ],
)
def test_what_is_no_list_is_refused_in_one_line(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ManifestError, match=r"list\.csv is not an exclusion list \(.*CSV with the columns dataset, sp"):
        read_exclusions([path])


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"gone\.csv does not exist; write it with `cover check --leaks`"):
        read_exclusions([tmp_path / "gone.csv"])
