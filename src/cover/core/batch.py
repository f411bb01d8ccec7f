"""The data that stages pass to each other.

Dimension legend, used as suffixes of tensor names throughout:

    T  frames of a clip         N  patches of a frame       D  width of the model
    B  clips                    F  frames of a packed batch (the sum of T·B over its groups)
    H  attention heads          E  width of a head, D / H
    C, Y, X  pixels of a frame: channel (RGB), row, column

The data of one step:

    MixedBatch ── "k400"     ClipBatch [T=8, B=40, 3, 224, 224]
               ├─ "ssv2"     ClipBatch [T=8, B=28, 3, 224, 224]
               └─ "imagenet" ClipBatch [T=1, B=60, 3, 224, 224]     an image is a clip of one frame
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

UNREADABLE = -1
"""The label of a clip that could not be decoded. Its frames are zero; loss and accuracy ignore it."""


@dataclass(frozen=True)
class ClipBatch:
    """Clips of one dataset, all of the same length and resolution.

    Attributes:
        dataset: The name of the dataset and of its head.
        frames: uint8 [T, B, C, Y, X], frame-major.
        labels: int64 [B]; UNREADABLE where decoding failed.
        sample_ids: B names, for messages.
        seeds: int64 [B], the source of each clip's own randomness (drop path), independent of the batch it is in.
        partner_labels: int64 [B], the label of the clip that was mixed into each clip, or None if no clips are mixed.
            The partner of an unmixed clip is the clip itself.
        label_weights: float32 [B], from 0.5 to 1: the weight of each clip's own label; the partner's label has the
            rest. None if no clips are mixed.
        targets: float32 [B, classes], how much each class applies to each clip, from 0 to 1; None for datasets whose
            samples have one class. Those of mixed clips are mixed, too.

    Raises:
        ValueError: Shapes or types disagree.
    """

    dataset: str
    frames: Tensor
    labels: Tensor
    sample_ids: tuple[str, ...]
    seeds: Tensor
    partner_labels: Tensor | None = None
    label_weights: Tensor | None = None
    targets: Tensor | None = None

    def __post_init__(self) -> None:
        if self.frames.ndim != 5 or self.frames.dtype != torch.uint8:
            raise ValueError(f"frames are {_describe(self.frames)}; a ClipBatch takes uint8 [T,B,C,Y,X]")
        num_clips = self.frames.shape[1]
        for name, tensor in self._tensors.items():
            dtype = "float32" if name == "label_weights" else "int64"
            if name not in ("frames", "targets") and _describe(tensor) != f"{dtype} [{num_clips}]":
                raise ValueError(f"{name} are {_describe(tensor)}; {num_clips} clips take {dtype} [{num_clips}]")
        if self.targets is not None and (self.targets.ndim, len(self.targets)) != (2, num_clips):
            raise ValueError(f"targets are {_describe(self.targets)}; {num_clips} clips take [{num_clips}, classes]")
        if (self.partner_labels is None) != (self.label_weights is None):
            raise ValueError("partner_labels and label_weights come together or not at all")
        if len(self.sample_ids) != num_clips:
            raise ValueError(f"{len(self.sample_ids)} sample ids for {num_clips} clips")

    @property
    def num_frames(self) -> int:
        """T."""
        return self.frames.shape[0]

    @property
    def num_clips(self) -> int:
        """B."""
        return self.frames.shape[1]

    def to(self, device: torch.device) -> ClipBatch:
        """Return the same clips on another device."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> ClipBatch:
        """Return the same clips in page-locked memory, from which copies to a GPU overlap computation."""
        return self._changed(Tensor.pin_memory)

    def without_pixels(self) -> ClipBatch:
        """Return the same clips with frames of 0 × 0 pixels."""
        return replace(self, frames=self.frames.new_empty(*self.frames.shape[:3], 0, 0))

    @property
    def _tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def _changed(self, change: Callable[[Tensor], Tensor]) -> ClipBatch:
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in self._tensors.items()}
        return replace(self, **changed)

    def __repr__(self) -> str:
        unreadable = int((self.labels == UNREADABLE).sum())
        note = f", {unreadable} unreadable" if unreadable else ""
        return f"ClipBatch({self.dataset}, frames {_describe(self.frames)}{note})"


@dataclass(frozen=True)
class MixedBatch(Mapping[str, ClipBatch]):
    """The clips of one step or micro-batch, as a mapping from dataset names to ClipBatches.

    Attributes:
        clips: A ClipBatch for each dataset that has clips here; a dataset may be absent.
        counts: For every dataset of the mixture, the number of its clips in the *whole* step, over all micro-batches
            and ranks (the expected number if its share is below one clip a batch). The loss divides by it, so gradients
            do not depend on how a step is sliced. Datasets of `clips_of` have those of the clips.
        step: The number of the step in the schedule.
        repeats: How often each row occurs in a step. A dataset that occurs in the step has at least this many clips.
        clips_of: {dataset: the dataset whose clips it has}, for datasets that only add labels to the clips of another.
            In `clips` they have frames without pixels; as an item of this mapping they have the other's frames.

    Raises:
        ValueError: Names of datasets disagree.
    """

    clips: dict[str, ClipBatch]
    counts: dict[str, float]
    step: int
    repeats: int = 1
    clips_of: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shared = {name: self.counts[owner] for name, owner in self.clips_of.items()}
        object.__setattr__(self, "counts", self.counts | shared)
        for name, batch in self.clips.items():
            if name != batch.dataset:
                raise ValueError(f"the clips under {name!r} belong to dataset {batch.dataset!r}")
            if name not in self.counts:
                raise ValueError(f"no count for dataset {name!r}; counts name {sorted(self.counts)}")

    def __getitem__(self, dataset: str) -> ClipBatch:
        clips = self.clips[dataset]
        return replace(clips, frames=self.clips[self.clips_of[dataset]].frames) if dataset in self.clips_of else clips

    def __iter__(self) -> Iterator[str]:
        return iter(self.clips)

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def num_clips(self) -> int:
        """The number of clips of all datasets. Those with several heads count once."""
        return sum(batch.num_clips for name, batch in self.clips.items() if name not in self.clips_of)

    def to(self, device: torch.device) -> MixedBatch:
        """The same batch on another device."""
        return replace(self, clips={name: batch.to(device) for name, batch in self.clips.items()})

    def pin_memory(self) -> MixedBatch:
        """The same batch in page-locked memory; torch's DataLoader calls this."""
        return replace(self, clips={name: batch.pin_memory() for name, batch in self.clips.items()})

    def __repr__(self) -> str:
        return f"MixedBatch(step {self.step}: {', '.join(map(repr, self.clips.values()))})"


@dataclass(frozen=True)
class Features:
    """Features float32 [N, D] of a manifest's rows, and their labels int64 [N], UNREADABLE where decoding failed."""

    features_ND: Tensor
    labels_N: Tensor

    def to(self, device: torch.device) -> Features:
        """The same on another device."""
        return Features(self.features_ND.to(device), self.labels_N.to(device))


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
