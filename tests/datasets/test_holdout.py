"""A val split that `cover index --val` makes: the same share of every class, and no recording in both splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cover.datasets.holdout import hold_out
from cover.datasets.manifest import Manifest, write_manifest
from cover.errors import ManifestError


def train_split(folder: Path, paths: Sequence[str], **columns: Any) -> Manifest:
    classes = sorted({path.split("/")[0] for path in paths})
    labels = [classes.index(path.split("/")[0]) for path in paths]
    values = {"sample_id": list(paths), "path": list(paths), "label": labels, **columns}
    return write_manifest(
        folder / "moves-train.arrow",
        values,
        name="moves",
        kind="video",
        split="train",
        class_names=classes,
        root=folder,
    )


def ids(manifest: Manifest) -> list[str]:
    return manifest.table["sample_id"].to_pylist()  # type: ignore[no-any-return]


def test_every_class_gives_its_share_and_the_same_files_everywhere(tmp_path: Path) -> None:
    paths = [
        f"{name}/{number}.mp4" for name, count in (("run", 40), ("swim", 10), ("fly", 2)) for number in range(count)
    ]
    train, val = hold_out([train_split(tmp_path, paths)], 0.2)
    assert dict(zip(val.class_names, val.class_counts(), strict=True)) == {"fly": 1, "run": 8, "swim": 2}
    assert sorted(ids(train) + ids(val)) == sorted(paths)
    assert (val.path, val.split) == (tmp_path / "moves-val.arrow", "val")
    assert (Manifest.open(train.path).digest, train.digest) == (train.digest, train.digest)
    (tmp_path / "elsewhere").mkdir()
    assert ids(hold_out([train_split(tmp_path / "elsewhere", paths)], 0.2)[1]) == ids(val)


@pytest.mark.parametrize("known_by", ["source_id", "name", "file", "copy"])
def test_a_recording_is_in_one_split(tmp_path: Path, known_by: str) -> None:
    recordings = [f"game{number}" for number in range(20)]
    if known_by == "name":
        paths, columns = (
            [f"{'run' if part else 'swim'}/{game}_clip{part}.mp4" for game in recordings for part in (0, 1)],
            {},
        )
    else:
        paths = [f"{kind}/{number}.mp4" for number in range(20) for kind in ("run", "swim")]
        columns = {"source_id": [game for game in recordings for _ in range(2)]} if known_by == "source_id" else {}
    if known_by == "file":
        columns = {"path": [f"{game}.mp4" for game in recordings for _ in range(2)]}
    copies = {tmp_path / path: tmp_path / path.replace("swim", "run") for path in paths if known_by == "copy"}
    manifest = train_split(tmp_path, paths, **columns)
    recording = dict(zip(ids(manifest), (game for game in recordings for _ in range(2)), strict=True))
    train, val = hold_out([manifest], 0.25, copies)
    assert len(val) == 10 and not {recording[one] for one in ids(train)} & {recording[one] for one in ids(val)}
    assert np.array_equal(val.class_counts(), [5, 5])


def test_numbers_of_parts_say_nothing_if_a_whole_class_has_one_name(tmp_path: Path) -> None:
    paths = [f"{name}/{name}_clip{number}.mp4" for name in ("run", "swim") for number in range(10)]
    _, val = hold_out([train_split(tmp_path, paths)], 0.2)
    assert np.array_equal(val.class_counts(), [2, 2])


def test_what_cannot_be_divided_is_refused_and_left_alone(tmp_path: Path) -> None:
    single = train_split(tmp_path, ["run/0.mp4", "swim/0.mp4"])
    with pytest.raises(ManifestError, match="moves has too few samples for a val split"):
        hold_out([single], 0.5)
    assert len(Manifest.open(single.path)) == 2
    train, val = hold_out([train_split(tmp_path, [f"run/{number}.mp4" for number in range(4)])], 0.5)
    with pytest.raises(ManifestError, match="moves has the splits train, val, and --val makes a val split"):
        hold_out([train, val], 0.5)
