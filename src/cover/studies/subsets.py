"""A share of a training manifest: so many samples of each class, of which a larger share has all and more."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cover.datasets.manifest import Manifest, write_manifest
from cover.studies.planning import Planner


def write_subsets(planner: Planner) -> None:
    """Write the manifests of shares of the training samples that the study's arms see."""
    study = planner.study
    shares = {(dataset, study.share_of(arm)) for arm in study.needed_arms() for dataset in study.arms[arm].datasets}
    for dataset, share in sorted(shares):
        if share < 1:
            write_subset(Manifest.open(study.datasets[dataset]["train"]), share, planner.subset_file(dataset, share))


def write_subset(whole: Manifest, share: float, path: Path) -> Manifest:
    """Write a manifest of `share` of each class's samples, at least one of each.

    Which ones depends on their number and class alone, so that shares are nested.
    """
    labels = whole.labels
    rng = np.random.default_rng(0)
    kept: list[int] = []
    for label in range(len(whole.class_names)):
        rows = rng.permutation(np.flatnonzero(labels == label))
        kept += rows[: max(round(share * len(rows)), 1)].tolist()
    return write_manifest(
        path,
        whole.rows(sorted(kept)),
        name=whole.name,
        kind=whole.kind,
        split=whole.split,
        class_names=whole.class_names,
        root=whole.root,
    )
