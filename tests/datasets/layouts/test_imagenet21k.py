from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cover.datasets.layouts.imagenet21k import index_imagenet21k
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]
TarOf = Callable[[Path, Path], Path]

FILES = {"n00004475/n00004475_6590.JPEG": 1, "n00005787/n00005787_13.JPEG": 2, "n00005787/n00005787_32.JPEG": 3}


def test_class_folders(tmp_path: Path, put: Put, shown: Shown) -> None:
    root = put(tmp_path / "in21k", FILES)
    (root / "words.txt").write_text("n00004475\torganism, being\nn00005787\tbenthos\nn00006484\tcell\n")
    (manifest,) = index_imagenet21k(root, out=tmp_path)
    assert shown(manifest) == FILES
    assert (manifest.path.name, manifest.split) == ("imagenet21k-train.arrow", "train")
    assert manifest.class_names == ("organism, being", "benthos") and manifest.labels.tolist() == [0, 1, 1]


def test_a_tar_a_class_and_images_by_their_own_names(tmp_path: Path, put: Put, shown: Shown, tar_of: TarOf) -> None:
    root = put(tmp_path / "in21k", {"fall11/part/n00005787_99.JPEG": 4})
    for name, number in FILES.items():
        put(tmp_path / "loose" / name.split("/")[0], {name.split("/")[1]: number})
    for wnid in ("n00004475", "n00005787"):
        tar_of(root / f"{wnid}.tar", tmp_path / "loose" / wnid)
    (manifest,) = index_imagenet21k(root, out=tmp_path)
    assert shown(manifest) == FILES | {"fall11/part/n00005787_99.JPEG": 4}
    assert manifest.class_names == ("n00004475", "n00005787")


def test_images_without_wordnet_ids_are_refused(tmp_path: Path, put: Put) -> None:
    with pytest.raises(
        ManifestError, match=r"1 images in .*pets, none with a WordNet id in its name; expected ROOT/n0"
    ):
        index_imagenet21k(put(tmp_path / "pets", {"cat/a.jpg": 1}), out=tmp_path)
