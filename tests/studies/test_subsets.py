from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cover.datasets.manifest import Manifest, ManifestRow, write_manifest
from cover.studies.subsets import write_subset


@pytest.fixture
def whole(tmp_path: Path) -> Manifest:
    """Two classes, of 40 and 3 samples."""
    rows = [ManifestRow(f"{i}", f"{i}.mp4", label=int(i >= 40)) for i in range(43)]
    return write_manifest(
        tmp_path / "whole.arrow",
        rows,
        name="clips",
        kind="video",
        split="train",
        class_names=["run", "jump"],
        root=tmp_path / "media",
    )


def test_a_share_has_as_much_of_each_class_and_at_least_one(whole: Manifest, tmp_path: Path) -> None:
    part = write_subset(whole, 0.1, tmp_path / "parts" / "tenth.arrow")
    assert Counter(row.label for row in part) == {0: 4, 1: 1}
    assert (part.name, part.split, part.class_names) == (whole.name, whole.split, whole.class_names)
    assert part[0].file == tmp_path / "media" / part[0].path


def test_shares_are_nested_and_the_same_every_time(whole: Manifest, tmp_path: Path) -> None:
    shares = [write_subset(whole, share, tmp_path / f"{share}.arrow") for share in (0.1, 0.25, 0.5, 1.0)]
    ids = [{row.sample_id for row in part} for part in shares]
    assert ids[0] < ids[1] < ids[2] < ids[3]
    assert shares[3].digest == whole.digest
    assert write_subset(whole, 0.25, tmp_path / "again.arrow").digest == shares[1].digest
