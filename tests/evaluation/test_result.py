"""Files of results: their names, what is read, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cover.errors import CheckpointError
from cover.evaluation.result import DatasetResult, Predictions, read_result

MakeResult = Callable[..., DatasetResult]

OLD = {
    "dataset": "clips", "kind": "video", "split": "test", "order": "normal", "views": "1x3", "num_frames": 8,
    "num_samples": 3, "num_unreadable": 1, "chance": 0.5, "top1": 2 / 3, "top5": None, "pair_accuracy": None,
    "num_pair_samples": 0, "seconds": 1.5, "checkpoint": "step-20", "class_names": ["in", "out"],
    "confusion": [[1, 1], [0, 1]], "unreadable": {"out/9": "no frames"},
}  # fmt: skip
"""A file as versions without predictions wrote it."""
PREDICTIONS = {
    "sample_ids": ["in/0", "in/1", "out/0"],
    "labels": [0, 0, 1],
    "predicted": [0, 1, 1],
    "probabilities": [0.9, 0.6, 1],
}


def read(folder: Path, values: object) -> DatasetResult:
    file = folder / "result.json"
    file.write_text(values if isinstance(values, str) else json.dumps(values))
    return read_result(file)


def test_a_name_can_be_read_and_says_what_the_result_depends_on(make_result: MakeResult, tmp_path: Path) -> None:
    path = make_result("clips", order="reversed").save(tmp_path)
    assert path.parent == tmp_path
    assert path.name.startswith("clips-test-reversed-1x3-8x64-step-20-")
    assert len(path.stem.rpartition("-")[2]) == 8
    assert make_result("clips", top1=0.9, order="reversed").file_name == path.name, "a name depends on no measurement"


def test_results_that_differ_in_anything_have_files_of_their_own(make_result: MakeResult, tmp_path: Path) -> None:
    first = make_result("a/b")
    others: list[dict[str, Any]] = [
        {"dataset": "a_b"},
        {"dataset": "A/b"},
        {"split": "val"},
        {"order": "single"},
        {"views": "4x3"},
        {"num_frames": 16},
        {"image_size_px": 96},
        {"checkpoint": "step-40"},
        {"manifest_digest": "77aa01bc" * 8},
    ]
    files = [first.save(tmp_path), *(replace(first, **change).save(tmp_path) for change in others)]
    assert len({str(file).lower() for file in files}) == len(others) + 1
    assert {file.parent for file in files} == {tmp_path}
    assert [read_result(file).dataset for file in files[:3]] == ["a/b", "a_b", "A/b"]


@pytest.mark.parametrize("name", ["x" * 300, "é" * 300, "../../up", "[red]", "<b>", ".hidden", "a\nb"])
def test_any_name_of_a_dataset_makes_a_file(make_result: MakeResult, tmp_path: Path, name: str) -> None:
    path = make_result(name).save(tmp_path / "run")
    assert path.parent == tmp_path / "run" and not path.name.startswith(".")
    assert read_result(path).dataset == name


def test_a_result_survives_its_file(make_result: MakeResult, tmp_path: Path) -> None:
    result = replace(make_result("clips", pair_accuracy=0.25), unreadable={"é": "why"}, num_unreadable=1)
    assert read_result(result.save(tmp_path)) == result
    assert "confusion" not in json.loads(result.to_json())


def test_files_of_older_versions_are_read(tmp_path: Path) -> None:
    oldest = read(tmp_path, OLD)
    assert (oldest.manifest_digest, oldest.image_size_px, oldest.predictions) == (None, None, None)
    assert oldest.confusion == ((1, 1), (0, 1)) and oldest.checkpoint == "step-20"
    older = read(tmp_path, OLD | {"predictions": PREDICTIONS})
    assert older.predictions == Predictions(("in/0", "in/1", "out/0"), (0, 0, 1), (0, 1, 1), (0.9, 0.6, 1.0))
    assert older.confusion is None


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ('{"cut": ', "Invalid JSON: EOF while parsing a value"),
        ("", "Invalid JSON: EOF"),
        ([], "Input should be an object"),
        ("[" * 100_000, "Invalid JSON: recursion limit exceeded"),
        ({}, "dataset: Field required"),
        (OLD | {"top1": "0.5"}, "top1: Input should be a valid number"),
        (OLD | {"top1": float("nan")}, "top1: Input should be "),
        (OLD | {"top1": 1.5}, "top1: Input should be less than or equal to 1"),
        (OLD | {"num_samples": 0}, "num_samples: Input should be greater than 0"),
        (OLD | {"order": "[/]"}, "order: Input should be 'normal', 'reversed', 'shuffled' or 'single'"),
        (OLD | {"views": "[red]"}, "views: String should match pattern"),
        (OLD | {"class_names": []}, "class_names: Tuple should have at least 1 item"),
        (OLD | {"confusion": [[1, 1]]}, "it has neither predictions nor a confusion matrix of its 2 classes"),
        (OLD | {"confusion": None}, "it has neither predictions nor a confusion matrix of its 2 classes"),
        (OLD | {"pair_accuracy": 0.5}, "it has a pair_accuracy of no samples"),
        (
            OLD | {"predictions": PREDICTIONS | {"labels": [0, 0]}},
            "the columns of predictions do not have 3 samples each",
        ),
        (OLD | {"predictions": PREDICTIONS | {"labels": [0, 0, 2]}}, "predictions have a label beyond its 2 classes"),
        (OLD | {"predictions": PREDICTIONS | {"predicted": [0, 0, -1]}}, "predictions.predicted.2: Input should be "),
        (
            OLD | {"predictions": PREDICTIONS | {"probabilities": [0.9, 0.6, float("nan")]}},
            "predictions.probabilities.2: Input should be ",
        ),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, values: object, reason: str) -> None:
    with pytest.raises(CheckpointError) as error:
        read(tmp_path, values)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'result.json'} is damaged ({reason}")
    assert message.endswith("); delete it and evaluate the run again") and "\n" not in message and len(message) < 300


def test_a_pipe_is_no_result(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(CheckpointError, match=r"pipe.json is damaged \(it is a pipe, not a file\)"):
        read_result(tmp_path / "pipe.json")
