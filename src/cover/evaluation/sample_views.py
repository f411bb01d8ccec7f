"""What a model is shown of a sample in an evaluation: views of it, in one of several frame orders.

The paper's Table 2 reverses the frames. The other two orders are controls: `shuffled` keeps the frames and destroys
their order, `single` keeps one frame and destroys all motion. For example, with T = 4:

    normal    0 1 2 3        shuffled  2 0 3 1
    reversed  3 2 1 0        single    1 1 1 1
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from cover.errors import DecodeError
from cover.media.reader import ClipReader
from cover.media.workers import in_workers

FrameOrder = Literal["normal", "reversed", "shuffled", "single"]
FRAME_ORDERS: tuple[FrameOrder, ...] = get_args(FrameOrder)


@dataclass(frozen=True)
class ViewBatch:
    """All views of some samples.

    Attributes:
        indices: Manifest rows of the S samples that were decoded.
        frames: uint8 [T, S·V, C, Y, X], the V views of a sample next to each other; empty if S = 0.
        unreadable: Why the other samples could not be decoded, by manifest row.
    """

    indices: list[int]
    frames: Tensor
    unreadable: dict[int, DecodeError]


@dataclass(frozen=True)
class SampleViews:
    """The views of a dataset's samples. Indexing gives (manifest row, uint8 frames [T,V,C,Y,X]), or (row, error).

    A row's frame order is drawn from its number, so every model is shown the same shuffled clips.

    Attributes:
        reader: Decodes the samples.
        num_clips: Clips in time.
        num_crops: Crops of each clip.
        order: The frame order of every clip.
        rows: The manifest rows to show; None means all.
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
            return index, DecodeError(str(error), error.reason)  # a new one: its cause may not be picklable
        return index, reorder(views_vtcyx.transpose(0, 1), self.order, seed=index)


def view_batches(
    samples: SampleViews, *, batch_size: int, num_workers: int, rank: int = 0, world_size: int = 1
) -> Generator[ViewBatch]:
    """Decode samples in worker processes, in manifest order.

    Args:
        samples: What to decode.
        batch_size: Samples a batch.
        num_workers: Processes; 0 decodes in this one.
        rank: Which of every `world_size` batches to decode.
        world_size: The number of evaluations that share the batches.

    Yields:
        Batches of `batch_size` samples.
    """
    numbers = range(len(samples))
    firsts = numbers[::batch_size][rank::world_size]
    batches = (numbers[first : first + batch_size] for first in firsts)
    return in_workers(partial(_view_batch, samples), batches, num_workers=num_workers)


def _view_batch(samples: SampleViews, numbers: range) -> ViewBatch:
    found = [samples[number] for number in numbers]
    decoded = {index: frames for index, frames in found if isinstance(frames, Tensor)}
    unreadable = {index: error for index, error in found if isinstance(error, DecodeError)}
    frames = torch.cat(list(decoded.values()), dim=1) if decoded else torch.empty(0)
    return ViewBatch(list(decoded), frames, unreadable)


def reorder(frames: Tensor, order: FrameOrder, seed: int) -> Tensor:
    """Put the frames [T, ...] of a clip into another order; `seed` decides for `shuffled` and `single`."""
    return frames[_frame_indices(len(frames), order, seed)]


def _frame_indices(num_frames: int, order: FrameOrder, seed: int) -> list[int]:
    """Which frame stands at each of the T places."""
    rng = np.random.default_rng(seed)
    match order:
        case "normal":
            return list(range(num_frames))
        case "reversed":
            return list(reversed(range(num_frames)))
        case "shuffled":
            return [int(index) for index in rng.permutation(num_frames)]
        case "single":
            return [int(rng.integers(num_frames))] * num_frames
