from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cover.datasets.layouts.epic_kitchens import index_epic_kitchens
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]

COLUMNS = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,verb,verb_class,noun,noun_class\n"
TRAIN = (
    "P01_01_0,P01,P01_01,00:00:00.14,00:00:03.37,open,1,door,3\nP01_01_1,P01,P01_01,01:02:03.50,01:02:05,take,0,pan,0\n"
)
VAL = "P02_12_0,P02,P02_12,00:00:01.00,00:00:02.00,take,0,plate,2\n"


def annotate(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "EPIC_100_train.csv").write_text(COLUMNS + TRAIN)
    (folder / "EPIC_100_validation.csv").write_text(COLUMNS + VAL)
    (folder / "EPIC_100_verb_classes.csv").write_text(
        "id,key,instances,category\n0,take,\"['take', 'get']\",a\n1,open,[],b\n"
    )
    nouns = "".join(f"{number},{name},[],c\n" for number, name in [(1, "spoon"), (0, "pan"), (3, "door"), (2, "plate")])
    (folder / "EPIC_100_noun_classes_v2.csv").write_text("id,key,instances,category\n" + nouns)


def test_verbs_and_nouns_are_two_datasets_of_the_same_segments(
    tmp_path: Path, put: Put, shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    root = put(tmp_path / "epic", {"P01/videos/P01_01.mp4": 1, "P02/videos/P02_12.mp4": 2})
    annotate(root / "annotations")
    manifests = {manifest.path.stem: manifest for manifest in index_epic_kitchens(root, out=tmp_path)}
    assert list(manifests) == ["epic_verbs-train", "epic_verbs-val", "epic_nouns-train", "epic_nouns-val"]
    assert not [line for line in caplog.messages if "same file" in line]
    verbs, nouns = manifests["epic_verbs-train"], manifests["epic_nouns-train"]
    assert shown(verbs) == shown(nouns) == {"P01_01_0": 1, "P01_01_1": 1}
    assert [(row.start_seconds, row.end_seconds, row.source_id) for row in verbs] == [
        (0.14, 3.37, "P01_01"),
        (3723.5, 3725.0, "P01_01"),
    ]
    assert (verbs.class_names, verbs.labels.tolist()) == (("take", "open"), [1, 0])
    assert (nouns.class_names, nouns.labels.tolist()) == (("pan", "spoon", "plate", "door"), [3, 0])
    assert manifests["epic_nouns-val"].labels.tolist() == [2]


def test_times_of_another_form_are_refused(tmp_path: Path, put: Put) -> None:
    root = put(tmp_path / "epic", {"P01/videos/P01_01.mp4": 1})
    annotate(root)
    (root / "EPIC_100_train.csv").write_text(COLUMNS + TRAIN.replace("00:00:00.14", "0.14"))
    with pytest.raises(ManifestError, match=r"EPIC_100_train.csv: the times of P01_01_0 are not of the form"):
        index_epic_kitchens(root, out=tmp_path)
