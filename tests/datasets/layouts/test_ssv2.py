from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cover.datasets.layouts.ssv2 import index_ssv2
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]

LABELS = {"Holding something": "2", "Moving something up": "0", "Putting something onto something": "1"}
TRAIN = [
    {"id": "78687", "label": "holding potato", "template": "Holding [something]", "placeholders": ["potato"]},
    {"id": "1", "label": "putting a onto b", "template": "Putting [something] onto [something]", "placeholders": []},
]
VAL = [{"id": "74225", "label": "moving it up", "template": "moving [something] up", "placeholders": ["it"]}]
OLD = "something-something-v2-"


def annotate(folder: Path, prefix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {"labels": LABELS, "train": TRAIN, "validation": VAL, "test": [{"id": "1420"}]}.items():
        (folder / f"{prefix}{name}.json").write_text(json.dumps(content))


def index(root: Path, **options: Any) -> dict[str, Manifest]:
    return {manifest.split: manifest for manifest in index_ssv2(root, out=root.parent / "out", **options)}


@pytest.mark.parametrize(
    ("files", "labels", "prefix"),
    [
        ({"20bn-something-something-v2/78687.webm": 1, "20bn-something-something-v2/74225.webm": 2}, "labels", ""),
        ({"78687.mp4": 1, "74225.mp4": 2}, ".", OLD),
        ({"frames/78687/": 1, "frames/74225/": 2}, "annotations", OLD),
    ],
    ids=["as distributed", "old names", "frames"],
)
def test_trees_as_they_are_distributed(
    tmp_path: Path, put: Put, shown: Shown, files: Mapping[str, int], labels: str, prefix: str
) -> None:
    root = put(tmp_path / "ssv2", files)
    annotate(root / labels, prefix)
    manifests = index(root)
    assert {split: shown(manifest) for split, manifest in manifests.items()} == {
        "train": {"78687": 1},
        "val": {"74225": 2},
    }
    names = ("Moving something up", "Putting something onto something", "Holding something")
    assert manifests["train"].class_names == manifests["val"].class_names == names
    assert manifests["train"].labels.tolist() == [2] and manifests["val"].labels.tolist() == [0]
    assert (tmp_path / "out/ssv2-train.missing.txt").read_text() == "1\tPutting something onto something\n"


def test_the_test_set_needs_its_answers(tmp_path: Path, put: Put, shown: Shown) -> None:
    root = put(tmp_path / "ssv2", {"1420.webm": 5, "78687.webm": 1})
    annotate(tmp_path / "labels")
    assert list(index(root, annotations=tmp_path / "labels")) == ["train"]
    (tmp_path / "labels/test-answers.csv").write_text("1420;Holding something\n")
    test = index(root, annotations=tmp_path / "labels")["test"]
    assert shown(test) == {"1420": 5} and test.class_names[test[0].label] == "Holding something"


def test_mistakes_are_refused_in_one_line(tmp_path: Path, put: Put, caplog: pytest.LogCaptureFixture) -> None:
    root = put(tmp_path / "ssv2", {"78687.webm": 1})
    with pytest.raises(ManifestError, match=r"labels.json or \*-labels.json is not in .*ssv2.*ssv2/labels"):
        index(root)
    annotate(root)
    (root / "train.json").write_text("[")
    with pytest.raises(ManifestError, match=r"train.json is not JSON .*download it again"):
        index(root)
    annotate(root)
    (root / "validation.json").write_text(json.dumps([{"id": "78687", "template": "Eating [something]"}]))
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(
            ManifestError,
            match=r"'eating something', the class of ssv2's 78687, is not among its 3 classes; download all",
        ),
    ):
        index(root)
    assert not list((tmp_path).glob("out/*.arrow"))
