from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cover.datasets.layouts.imagenet1k import index_imagenet1k
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]
TarOf = Callable[[Path, Path], Path]

TENCH, CRANE_BIRD, CRANE = "n01440764", "n02012849", "n03126707"
TRAIN = {f"{TENCH}/{TENCH}_10026.JPEG": 1, f"{CRANE}/{CRANE}_7.JPEG": 2, f"{CRANE_BIRD}/{CRANE_BIRD}_8.JPEG": 3}
VAL = {"ILSVRC2012_val_00000001.JPEG": 4, "ILSVRC2012_val_00000002.JPEG": 5}
WORDS = f"{TENCH} tench, Tinca tinca\n{CRANE_BIRD} crane\n{CRANE} crane\n"


def under(folder: str, files: Mapping[str, int]) -> dict[str, int]:
    return {f"{folder}/{name}": number for name, number in files.items()}


def meta_mat(wnids: list[str]) -> bytes:
    """The file as MATLAB writes it: a header, and one compressed element with 16 bits for each letter."""
    texts = b"".join(bytes([4, 0, 0, 0, 18, 0, 0, 0]) + wnid.encode("utf-16-le") + bytes(6) for wnid in wnids)
    content = zlib.compress(bytes([14, 0, 0, 0]) + len(texts).to_bytes(4, "little") + texts)
    return b"MATLAB 5.0 MAT-file".ljust(128) + bytes([15, 0, 0, 0]) + len(content).to_bytes(4, "little") + content


def truth_by_kaggle(root: Path) -> None:
    lines = f"ILSVRC2012_val_00000002,{TENCH} 1 2 3 4\nILSVRC2012_val_00000001,{CRANE} 1 2 3 4 {CRANE} 5 6 7 8\n"
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + lines)


def truth_by_synset_labels(root: Path) -> None:
    (root / "imagenet_2012_validation_synset_labels.txt").write_text(f"{CRANE}\n{TENCH}\n")


def truth_by_development_kit(root: Path) -> None:
    data = root / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n3\n")
    (data / "meta.mat").write_bytes(meta_mat([CRANE_BIRD, CRANE, TENCH]))


def index(root: Path, **options: Any) -> dict[str, Manifest]:
    return {manifest.split: manifest for manifest in index_imagenet1k(root, out=root.parent / "out", **options)}


def classes(manifest: Manifest) -> list[str]:
    return [manifest.class_names[row.label] for row in manifest]


@pytest.mark.parametrize("truth", [truth_by_kaggle, truth_by_synset_labels, truth_by_development_kit])
def test_flat_validation_images_with_their_ground_truth(
    tmp_path: Path, put: Put, shown: Shown, truth: Callable[[Path], None]
) -> None:
    root = put(tmp_path / "imagenet", under("train", TRAIN) | under("val", VAL))
    truth(root)
    train, val = index(root).values()
    assert (train.name, train.kind) == ("imagenet", "image")
    assert train.class_names == val.class_names == (TENCH, CRANE_BIRD, CRANE)
    assert shown(train) == under("train", TRAIN) and shown(val) == under("val", VAL)
    assert classes(train) == [TENCH, CRANE_BIRD, CRANE] and classes(val) == [CRANE, TENCH]


def test_validation_images_in_class_folders_of_kaggles_tree_and_readable_names(
    tmp_path: Path, put: Put, shown: Shown
) -> None:
    val = {f"{CRANE}/ILSVRC2012_val_00000001.JPEG": 4, f"{TENCH}/ILSVRC2012_val_00000002.JPEG": 5}
    files = under("ILSVRC/Data/CLS-LOC/train", TRAIN) | under("ILSVRC/Data/CLS-LOC/val", val)
    root = put(tmp_path / "imagenet", files | {"ILSVRC/Data/CLS-LOC/test/ILSVRC2012_test_00000001.JPEG": 6})
    (root / "LOC_synset_mapping.txt").write_text(WORDS)
    manifests = index(root)
    assert {split: len(manifest) for split, manifest in manifests.items()} == {"train": 3, "val": 2}
    assert shown(manifests["val"]) == under("ILSVRC/Data/CLS-LOC/val", val)
    names = ("tench, Tinca tinca", f"crane ({CRANE_BIRD})", f"crane ({CRANE})")
    assert manifests["val"].class_names == names
    assert classes(manifests["val"]) == [names[0], names[2]]


def test_the_tars_as_downloaded(tmp_path: Path, put: Put, shown: Shown, tar_of: TarOf) -> None:
    root = tmp_path / "imagenet"
    (root / "classes").mkdir(parents=True)
    for name, number in TRAIN.items():
        folder, file = name.split("/")
        tar_of(root / "classes" / f"{folder}.tar", put(tmp_path / folder, {file: number}))
    tar_of(root / "ILSVRC2012_img_train.tar", root / "classes")
    tar_of(root / "ILSVRC2012_img_val.tar", put(tmp_path / "val", VAL))
    truth_by_development_kit(root)
    train, val = index(root).values()
    assert shown(train) == under("ILSVRC2012_img_train", TRAIN)
    assert shown(val) == under("ILSVRC2012_img_val", VAL)
    assert classes(train) == [TENCH, CRANE_BIRD, CRANE] and classes(val) == [CRANE, TENCH]
    assert {row.path for row in train} == {"ILSVRC2012_img_train.tar"}


def test_parquet_shards(tmp_path: Path, put: Put, shown: Shown) -> None:
    root = put(tmp_path / "hub", under("loose", VAL))
    images = [{"bytes": (root / "loose" / name).read_bytes(), "path": name} for name in VAL]
    features = {"image": {"_type": "Image"}, "label": {"names": ["tench", "crane"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    (root / "data").mkdir()
    for name, labels in (
        ("train-00000-of-00002-a1", [1, 0]),
        ("train-00001-of-00002-b2", [0, -1]),
        ("validation-00000-of-00001", [1, 1]),
        ("test-00000-of-00001", [-1, -1]),
    ):
        table = pa.table({"image": images, "label": labels}).replace_schema_metadata(metadata)
        pq.write_table(table, root / "data" / f"{name}.parquet", row_group_size=1)
    train, val = index(root).values()
    assert shown(train) == {
        "data/train-00000-of-00002-a1.parquet:0": 4,
        "data/train-00000-of-00002-a1.parquet:1": 5,
        "data/train-00001-of-00002-b2.parquet:0": 4,
    }
    assert [(row.path, row.offset, row.length, row.label) for row in val] == [
        ("data/validation-00000-of-00001.parquet", 0, None, 1),
        ("data/validation-00000-of-00001.parquet", 1, None, 1),
    ]
    assert train.class_names == val.class_names == ("tench", "crane")
    pq.write_table(pa.table({"text": ["a"]}), root / "data" / "train-3.parquet")
    with pytest.raises(ManifestError, match=r"train-3.parquet has no readable column `label`"):
        index(root)


def test_parquet_files_of_other_things_are_no_shards(tmp_path: Path, put: Put) -> None:
    root = put(tmp_path / "imagenet", {f"train/{name}": number for name, number in TRAIN.items()})
    for folder in ("features", "logs"):
        (root / folder).mkdir()
        (root / folder / "a.parquet").touch()
    assert len(index(root)["train"]) == len(TRAIN)


def test_missing_and_unlabelled_images(tmp_path: Path, put: Put, caplog: pytest.LogCaptureFixture) -> None:
    root = put(tmp_path / "imagenet", under("train", TRAIN) | under("val", dict([*VAL.items()][:1])))
    with caplog.at_level(logging.WARNING):
        assert list(index(root)) == ["train"]
    assert "1 images have no label and are left out; LOC_val_solution.csv or the dev" in caplog.text
    truth_by_kaggle(root)
    assert len(index(root)["val"]) == 1
    assert (tmp_path / "out/imagenet-val.missing.txt").read_text() == f"ILSVRC2012_val_00000002\t{TENCH}\n"


def test_images_without_labels_are_refused(tmp_path: Path, put: Put) -> None:
    root = put(tmp_path / "imagenet", VAL)
    with pytest.raises(ManifestError, match=r"no image in .*imagenet has a label; expected ROOT/train/n01440764/"):
        index(root)
    data = root / "ILSVRC2012_devkit_t12" / "data"
    truth_by_development_kit(root)
    (data / "meta.mat").write_bytes(b"MATLAB".ljust(200))
    with pytest.raises(ManifestError, match=r"meta.mat contains no synsets; unpack it again"):
        index(root)
