"""Where samples were found, and a manifest of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cover.catalog.manifest import Manifest, write_manifest
from cover.catalog.suffixes import Kind


class Place(NamedTuple):
    """Where one video or image lies: `path`, `offset`, `length` and `num_frames` as a ManifestRow has them.

    name: its path relative to the root as it would be if every tar were unpacked.
    label: what a WebDataset shard says of it, in a file of the same name; None elsewhere.
    """

    name: str
    path: str
    offset: int | None = None
    length: int | None = None
    num_frames: int | None = None
    label: str | None = None


def write_placed(
    places: Sequence[Place],
    labels: Sequence[int],
    *,
    root: str | Path,
    kind: Kind,
    out: str | Path,
    name: str,
    split: str,
    class_names: Sequence[str],
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> Manifest:
    """Write OUT/NAME-SPLIT.arrow, a row a place. Sample ids are the places' names, unless `columns` has others."""
    rows: dict[str, Sequence[Any]] = {
        "sample_id": [place.name for place in places],
        "path": [place.path for place in places],
        "offset": [place.offset for place in places],
        "length": [place.length for place in places],
        "num_frames": [place.num_frames for place in places],
        "label": labels,
    }
    return write_manifest(
        Path(out) / f"{name}-{split}.arrow",
        rows | dict(columns or {}),
        name=name,
        kind=kind,
        split=split,
        class_names=class_names,
        root=root,
    )
