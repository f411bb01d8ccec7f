from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.processes import full_disk
from tests.terminal import printed

from cover.errors import CoverError
from cover.inference import search
from cover.inference.feature_table import FeatureTable
from cover.inference.search import nearest, neighbours_json, neighbours_table

IDS = ["right", "also [right]", "up", "left"]
FEATURES = np.array([[2, 0], [3, 0.3], [0, 1], [-1, 0]], np.float32)


def table() -> FeatureTable:
    return FeatureTable(IDS, ["a.mp4", "b.mp4", None, None], ["x", "x", "y", None], FEATURES, backbone="f00d")


@pytest.mark.parametrize("name", ["features.parquet", "features.npy"])
def test_features_come_back_as_they_were_written(tmp_path: Path, name: str) -> None:
    table().save(tmp_path / "new" / name)
    back = FeatureTable.open(tmp_path / "new" / name)
    assert (back.ids, back.backbone, back.features.dtype) == (IDS, "f00d", np.dtype("float32"))
    assert np.array_equal(back.features, FEATURES)
    assert (back.paths, back.classes) == (
        (table().paths, table().classes) if name.endswith("parquet") else ([None] * 4, [None] * 4)
    )


def test_other_tools_read_them(tmp_path: Path) -> None:
    for name in ("features.parquet", "features.npy"):
        table().save(tmp_path / name)
    rows = pq.read_table(tmp_path / "features.parquet").to_pylist()
    assert rows[0] == {"id": "right", "path": "a.mp4", "class": "x", "feature": [2, 0]}
    assert np.load(tmp_path / "features.npy").shape == (4, 2)
    assert json.loads((tmp_path / "features.ids.json").read_text())["ids"] == IDS


def test_a_full_disk_leaves_neither_of_the_two_files(tmp_path: Path) -> None:
    with (
        full_disk(100),
        pytest.raises(CoverError, match=r"features\.npy cannot be written \(File too large\); name another place"),
    ):
        table().save(tmp_path / "features.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("features.csv", "features.csv ends in neither .parquet nor .npy; choose one of the two formats"),
        ("absent.npy", "absent.npy does not exist; write it with `cover embed`"),
        ("absent.parquet", "absent.parquet does not exist; write it with `cover embed`"),
        ("damaged.parquet", r"damaged.parquet is not a table of features; write it with `cover embed`"),
    ],
)
def test_what_holds_no_features_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "damaged.parquet").write_text("no such thing")
    with pytest.raises(CoverError, match=message):
        FeatureTable.open(tmp_path / name)


def test_the_nearest_are_those_of_the_smallest_angle() -> None:
    pytest.importorskip("faiss")
    found = nearest(table(), {"right": FEATURES[0], "new.mp4": np.array([0.1, 9], np.float32)}, 2)
    assert [neighbour.id for neighbour in found["right"]] == ["also [right]", "up"]  # not itself
    assert found["right"][0].similarity == pytest.approx(3 / np.hypot(3, 0.3))
    assert [neighbour.id for neighbour in found["new.mp4"]] == ["up", "also [right]"]
    assert len(nearest(table(), {"up": FEATURES[2]}, 99)["up"]) == 3
    first = json.loads(neighbours_json(found))[0]
    assert first["query"] == "right"
    assert first["neighbours"][0] | {"similarity": 0} == {
        "id": "also [right]",
        "similarity": 0,
        "path": "b.mp4",
        "class": "x",
    }
    assert "also [right]" in printed(neighbours_table("right", found["right"]))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "find_spec", lambda _name: None)
    with pytest.raises(CoverError, match=r"pip install 'cover-video\[search\]'"):
        nearest(table(), {"up": FEATURES[2]}, 1)
