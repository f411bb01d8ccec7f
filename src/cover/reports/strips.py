"""A few clips of a dataset with what the model says about them, for the report."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cover.errors import DecodeError
from cover.evaluation.evaluate import Predict
from cover.evaluation.ranking import RankedClasses, top_classes
from cover.media.reader import ClipReader

NUM_CLASSES_SHOWN = 3


@dataclass(frozen=True)
class Strip:
    """One clip as the model saw it, and its most probable classes.

    frames: uint8 [T,Y,X,3], the centre crop of a single clip.
    """

    dataset: str
    sample_id: str
    frames: NDArray[np.uint8]
    true_class: str
    predictions: RankedClasses

    @property
    def correct(self) -> bool:
        return self.predictions[0][0] == self.true_class


def sample_strips(predict: Predict, reader: ClipReader, name: str, num_samples: int, seed: int) -> list[Strip]:
    """Up to `num_samples` random clips of the dataset `name`; one seed gives every model the same clips."""
    strips: list[Strip] = []
    for index in np.random.default_rng(seed).permutation(len(reader.manifest)).tolist():
        if len(strips) == num_samples:
            break
        try:
            strips.append(_strip(predict, reader, name, index))
        except DecodeError:
            continue  # evaluation has named and counted it
    return strips


def _strip(predict: Predict, reader: ClipReader, name: str, index: int) -> Strip:
    class_names = reader.manifest.class_names
    row = reader.manifest[index]
    frames_tbcyx = reader.views(index, num_crops=1).transpose(0, 1)
    return Strip(
        dataset=name,
        sample_id=row.sample_id,
        frames=_pictures(frames_tbcyx),
        true_class=class_names[row.label],
        predictions=top_classes(predict({name: frames_tbcyx})[name][0], class_names, NUM_CLASSES_SHOWN),
    )


def frames_of(reader: ClipReader, sample_ids: Collection[str]) -> dict[str, NDArray[np.uint8]]:
    """The same of chosen samples, by id; those that are gone or cannot be decoded are left out."""
    frames = {}
    for index, sample_id in enumerate(reader.manifest.table["sample_id"].to_pylist()):
        if sample_id in sample_ids:
            with suppress(DecodeError):
                frames[sample_id] = _pictures(reader.views(index, num_crops=1).transpose(0, 1))
    return frames


def _pictures(frames_tbcyx: Tensor) -> NDArray[np.uint8]:
    """uint8 [T,Y,X,3] of the first clip."""
    return frames_tbcyx[:, 0].permute(0, 2, 3, 1).numpy()
