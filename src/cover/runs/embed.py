"""Features of a user's files and manifests, for search and clustering: the class token after the final norm."""

from __future__ import annotations

import logging
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cover.core.batch import UNREADABLE
from cover.core.progress import track
from cover.core.signals import StopSignal
from cover.datasets.manifest import Manifest
from cover.errors import CheckpointError, CoverError, DecodeError, printable
from cover.evaluation.sample_views import SampleViews
from cover.inference.feature_store import FeatureStore
from cover.inference.feature_table import FeatureTable
from cover.inference.views import Views
from cover.media.workers import workers_watched
from cover.runs.adapters import backbone_digest
from cover.runs.model import OpenModel

logger = logging.getLogger(__name__)


def embed(
    opened: OpenModel, files: Sequence[Path], manifests: Sequence[Manifest], *, head: str | None = None
) -> FeatureTable | signal.Signals:
    """Compute the features of files and of the samples of manifests, from the centre crop of one clip each.

    What cannot be decoded is named in the log and skipped. Features of manifests are kept in `features_folder`.

    Args:
        opened: Whose backbone computes them.
        files: Videos and images; their ids are their paths.
        manifests: Their ids are sample ids.
        head: Clips have the length and sampling of this head's training, see `clip_views`.

    Returns:
        A table of features, or the signal that interrupted the work on manifests. The same call then continues.

    Raises:
        CoverError: An id occurs twice, or nothing can be decoded.
    """
    check_ids([printable(file) for file in files] + [row.sample_id for manifest in manifests for row in manifest])
    digest, views = backbone_digest(opened.model), clip_views(opened, head)
    features: list[npt.NDArray[np.float32]] = []
    names: list[tuple[str, str, str | None]] = []
    for file in track(files, "features of files"):
        try:
            features.append(embed_file(opened, views, file))
            names.append((printable(file), printable(file), None))
        except DecodeError as error:
            logger.warning("%s", error)
    store = feature_store(opened, digest)
    for manifest in manifests:
        samples = SampleViews(opened.reader_of(views, manifest), num_clips=1, num_crops=1, order="normal")
        with StopSignal() as stop, workers_watched("the same command continues"):
            store.fill(manifest.name, samples, stopping=lambda stop=stop: stop.requested is not None)  # type: ignore[misc]
        if stop.requested:
            return stop.requested
        computed = store.read(manifest.name, samples)
        readable = (computed.labels_N != UNREADABLE).tolist()
        features += list(computed.features_ND[computed.labels_N != UNREADABLE].numpy())
        names += [
            (row.sample_id, str(row.file), ", ".join(manifest.classes_of(row)))
            for row, is_readable in zip(manifest, readable, strict=True)
            if is_readable
        ]
    if not features:
        raise CoverError("there are no clips to embed; give files that can be read, or a --manifest of such")
    ids, paths, classes = (list(values) for values in zip(*names, strict=True))
    return FeatureTable(ids, paths, classes, np.stack(features), digest, views)


def clip_views(opened: OpenModel, head: str | None) -> Views:
    """How clips are read: as a head's training clips, or as those of all heads if they agree, or else as whole videos.

    Raises:
        CheckpointError: The head is unknown.
    """
    heads = list(opened.class_names([head]) if head else opened.model.config.heads)
    found = {views: name for name in reversed(heads) for views in [opened.views(name)]}
    if len(found) == 1:
        return next(iter(found))
    config = opened.model.config
    if found:
        several = "; ".join(f"{name}: {views}" for views, name in reversed(found.items()))
        logger.warning("clips are of whole videos, because heads differ (%s); --head chooses one of them", several)
    return Views(config.num_frames, config.image_size_px, num_crops=1)


def embed_queries(opened: OpenModel, table: FeatureTable, files: Sequence[Path]) -> dict[str, npt.NDArray[np.float32]]:
    """Compute features to look up in a table, of clips that are read as those of the table.

    Raises:
        CheckpointError: Another model computed the table.
    """
    if backbone_digest(opened.model) != table.backbone:
        raise CheckpointError(
            f"the features are of another model than {opened.checkpoint}; name the model that they were computed by, "
            "or embed the clips again"
        )
    config = opened.model.config
    views = table.views or Views(config.num_frames, config.image_size_px, num_crops=1)
    return {printable(file): embed_file(opened, views, file) for file in files}


def embed_file(opened: OpenModel, views: Views, file: Path) -> npt.NDArray[np.float32]:
    """The feature [D] of a video or image in a single view. Raises DecodeError with the file's name."""
    feature: npt.NDArray[np.float32] = opened.embed(views.read(file).frames)[0].numpy()
    return feature


def check_ids(ids: Sequence[str]) -> None:
    """Raise CoverError if an id occurs twice."""
    twice = [name for name, count in Counter(ids).most_common(1) if count > 1]
    if twice:
        raise CoverError(f"{twice[0]} occurs twice; every clip has one feature: write the two into different files")


def feature_store(opened: OpenModel, digest: str) -> FeatureStore:
    """The store of a model; linear probes share that of a run."""
    return FeatureStore(
        opened.features_folder,
        opened.embed,
        backbone=digest,
        width=opened.model.backbone.width,
        precision=opened.mixed_precision,
        batch_size=opened.evaluation.batch_size,
        num_workers=opened.num_workers,
        max_unreadable_share=1.0,
    )
