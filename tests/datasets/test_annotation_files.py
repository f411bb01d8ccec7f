from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cover.datasets.annotation_files import AnnotationFiles
from cover.datasets.layouts.hmdb51 import index_hmdb51
from cover.datasets.layouts.imagenet1k import index_imagenet1k
from cover.datasets.layouts.imagenet21k import index_imagenet21k
from cover.datasets.layouts.kinetics import index_kinetics
from cover.datasets.layouts.moments import index_moments
from cover.datasets.layouts.ssv2 import index_ssv2
from cover.datasets.layouts.ucf101 import index_ucf101
from cover.errors import ManifestError

KINETICS = "label,youtube_id,time_start,time_end,split\n"


@pytest.mark.parametrize(
    ("layout", "file", "text"),
    [
        (index_ssv2, "labels.json", '["Holding something"]'),
        (index_ssv2, "labels.json", '{"Holding something": "first"}'),
        (index_ucf101, "classInd.txt", "ApplyEyeMakeup\n"),
        (index_hmdb51, "run_test_split1.txt", "a.avi\n"),
        (index_moments, "moments_categories.txt", "running,first\n"),
        (index_imagenet1k, "LOC_val_solution.csv", "Image,Prediction\na,b\n"),
        (index_hmdb51, "run_test_split1.txt", "a.avi 1\nb.avi 3\n"),
        (index_imagenet1k, "LOC_val_solution.csv", "ImageId;PredictionString\nILSVRC2012_val_00000001;n01440764 1\n"),
        (index_imagenet1k, "imagenet_2012_validation_synset_labels.txt", "1 n01440764\n"),
        (index_imagenet21k, "words.txt", "n01440764,tench, Tinca tinca\n"),
    ],
)
def test_annotations_that_are_not_as_published_are_one_line(
    tmp_path: Path, layout: Callable[..., Any], file: str, text: str
) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(ManifestError, match=rf"{file} does not have its published form \(.+\); download it ag") as e:
        layout(tmp_path, out=tmp_path / "out")
    assert "\n" not in str(e.value)


def test_lines_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(KINETICS + '"' + "x" * 200_000 + '",a,0,1,train\n')
    with pytest.raises(ManifestError, match=r"train.csv:2: '.*' cannot be read \(field larger than field limit"):
        index_kinetics(tmp_path, out=tmp_path, name="k")


def test_what_macos_adds_to_archives_is_no_annotation(tmp_path: Path) -> None:
    (tmp_path / "train.csv").touch()
    (tmp_path / "._train.csv").write_bytes(b"\0\5\26\7")
    files = AnnotationFiles(tmp_path, None)
    assert files.find("*train.csv") == tmp_path / "train.csv"
    assert files.find_all("*.csv") == [tmp_path / "train.csv"]


def test_samples_that_are_listed_twice_or_share_a_file_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ("run,a,0,10,train", "jump,a,0,10,train", "run,a,20,30,train", "run,b,0,10,train")
    (tmp_path / "train.csv").write_text(KINETICS + "".join(f"{line}\n" for line in lines))
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING):
        (manifest,) = index_kinetics(tmp_path, out=tmp_path, name="k")
    assert [(row.sample_id, row.path, manifest.class_names[row.label]) for row in manifest] == [
        ("a_000000_000010", "a.mp4", "jump"),
        ("a_000020_000030", "a.mp4", "run"),
        ("b_000000_000010", "b.mp4", "run"),
    ]
    assert (
        "k train: 1 lines give a sample another label, such as a_000000_000010 (run, jump); the last label counts"
        in caplog.text
    )
    assert "k train: 1 samples have the same file as another" in caplog.text
