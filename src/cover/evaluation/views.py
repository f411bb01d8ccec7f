"""Loading evaluation views: decoded in worker processes, stacked to one tensor a batch."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cover.errors import DecodeError
from cover.evaluation.orders import FrameOrder, reorder
from cover.media.reader import ClipReader
from cover.media.workers import in_workers


@dataclass(frozen=True)
class ViewBatch:
    """All views of some samples.

    indices: manifest rows of the S samples that could be decoded.
    frames: uint8 [T, S·V, C, Y, X], the V views of a sample next to each other; empty when S = 0.
    unreadable: manifest row -> why it could not be decoded.
    """

    indices: list[int]
    frames: Tensor
    unreadable: dict[int, DecodeError]


@dataclass(frozen=True)
class SampleViews:
    """Number -> (manifest row, uint8 frames [T,V,C,Y,X]), or (row, why there are none).

    rows: the manifest rows to show; all of them if None.
    A row's frame order is drawn from the row's number, so every model is shown the same shuffled clips.
    """

    reader: ClipReader
    num_clips: int
    num_crops: int
    order: FrameOrder
    rows: range | None = None

    def __len__(self) -> int:
        return len(self.reader.manifest) if self.rows is None else len(self.rows)

    def __getitem__(self, number: int) -> tuple[int, Tensor | DecodeError]:
        index = number if self.rows is None else self.rows[number]
        try:
            views_vtcyx = self.reader.views(index, num_clips=self.num_clips, num_crops=self.num_crops)
        except DecodeError as error:
            return index, DecodeError(str(error), error.reason)  # anew: what caused it need not be picklable
        return index, reorder(views_vtcyx.transpose(0, 1), self.order, seed=index)


def view_batches(samples: SampleViews, *, batch_size: int, num_workers: int) -> Generator[ViewBatch]:
    """Batches of `batch_size` samples in manifest order."""
    numbers = range(len(samples))
    batches = (numbers[first : first + batch_size] for first in numbers[::batch_size])
    return in_workers(partial(_view_batch, samples), batches, num_workers=num_workers)


def _view_batch(samples: SampleViews, numbers: range) -> ViewBatch:
    found = [samples[number] for number in numbers]
    decoded = {index: frames for index, frames in found if isinstance(frames, Tensor)}
    unreadable = {index: error for index, error in found if isinstance(error, DecodeError)}
    frames = torch.cat(list(decoded.values()), dim=1) if decoded else torch.empty(0)
    return ViewBatch(list(decoded), frames, unreadable)
