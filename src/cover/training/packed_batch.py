"""A micro-batch in the form that steps take: a few tensors on the device, whose shapes repeat from step to step.

How many clips each dataset has changes all the time; how many clips there are of each length changes little. So every
head answers every clip, and each clip says which dataset it belongs to. A step of the paper's mixture has 3 to 7
combinations of shapes, each of which is one CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from cover.core.batch import UNREADABLE, ClipBatch, MixedBatch
from cover.models.packing import Group, PackedFrames, pack, unpack

LossKind = Literal["cross_entropy", "bce"]
Layout = tuple[tuple[Group, ...], tuple[str, ...]]
"""Groups and datasets of a PackedBatch."""


class Targets(NamedTuple):
    """The targets of clips for one head; UNREADABLE for a clip without one.

    Attributes:
        labels: int64 [B].
        partner_labels: int64 [B], as in ClipBatch, or None.
        label_weights: float32 [B], as in ClipBatch, or None.
        class_weights: float32 [B], the weight of each clip's class, or None if all are 1.
        partner_class_weights: float32 [B], the weight of its partner's class, or None.
        classes: float32 [B, classes or more], how much each class applies, or None. It counts for the heads of
            multi-label datasets alone.
    """

    labels: Tensor
    partner_labels: Tensor | None = None
    label_weights: Tensor | None = None
    class_weights: Tensor | None = None
    partner_class_weights: Tensor | None = None
    classes: Tensor | None = None


class HeadLoss(NamedTuple):
    """The loss of a head.

    Attributes:
        kind: Cross-entropy, or binary cross-entropy of each class.
        num_targets: The classes of a multi-label dataset; 0 if samples have one class.
    """

    kind: LossKind = "cross_entropy"
    num_targets: int = 0


ONE_CLASS = HeadLoss()


def targets_of(clips: ClipBatch, class_weights_C: Tensor | None = None) -> Targets:
    """Return the targets of clips for the head of their dataset.

    Args:
        clips: Clips of one dataset.
        class_weights_C: [classes], the weight of each class; None if all are 1.
    """
    own, other = clips.labels, clips.partner_labels
    weights = _weights_of(own, class_weights_C), None if other is None else _weights_of(other, class_weights_C)
    return Targets(own, other, clips.label_weights, *weights, clips.targets)


@dataclass(frozen=True)
class PackedBatch:
    """The clips of a micro-batch, in packed order, and R answers that are wanted: one of each clip, followed by those
    of further heads on the same clips (`datasets.NAME.clips_of`).

    Attributes:
        inputs: uint8 frames [F, C, Y, X]; for a probe, float32 features [B, D].
        seeds: int64 [B], the source of each clip's randomness.
        numbers: int64 [R], the position of each answer's dataset in `datasets`.
        labels: int64 [R]; in what follows, B is R, too.
        factors: float32, for each of `datasets`, what its summed cross-entropy is multiplied by in the loss.
        groups: The layout of the frames, empty for features.
        datasets: All datasets of the mixture.
        partner_labels: As in ClipBatch; None if no dataset of this micro-batch mixes its clips.
        label_weights: As in ClipBatch; None if no dataset of this micro-batch mixes its clips.
        class_weights: As in Targets; None if the recipe has none.
        partner_class_weights: As in Targets; None if the recipe has none, or no dataset mixes its clips.
        classes: float32 [B, most classes of a multi-label dataset], as in Targets; None if there is no such dataset.
        rows: int64 [R], the clip of each answer; None if each clip has one.
        sample_ids: R names, for messages.
    """

    inputs: Tensor
    seeds: Tensor
    numbers: Tensor
    labels: Tensor
    factors: Tensor
    groups: tuple[Group, ...]
    datasets: tuple[str, ...]
    partner_labels: Tensor | None = None
    label_weights: Tensor | None = None
    class_weights: Tensor | None = None
    partner_class_weights: Tensor | None = None
    classes: Tensor | None = None
    rows: Tensor | None = None
    sample_ids: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        batch: MixedBatch,
        factors: Mapping[str, float],
        device: torch.device,
        features: Mapping[str, Tensor] | None = None,
        class_weights: Mapping[str, Tensor] | None = None,
        num_targets: int = 0,
    ) -> PackedBatch:
        """Pack a batch, and copy it to a device.

        Args:
            batch: The clips. Copies overlap with computation if its memory is page-locked.
            factors: {dataset: factor} for every dataset of the mixture; see the attribute.
            device: Where the tensors go.
            features: {dataset: [B, D]} on the device, to be used instead of the clips' frames.
            class_weights: {dataset: [classes]} on the host, for the datasets that have them.
            num_targets: The most classes of a multi-label dataset of the mixture; 0 if there is none.
        """
        if features is None:
            # Only the frames are large. All other tensors are packed on the host, which takes fewer copies.
            uploaded = {
                name: replace(clips, frames=clips.frames.to(device, non_blocking=True))
                for name, clips in batch.clips.items()
            }
            frames, rows = pack(replace(batch, clips=uploaded))
            inputs, groups, seeds = frames.frames_FCYX, frames.groups, frames.seeds_B
        else:
            rows = _rows_of(batch)
            inputs, groups = torch.cat([features[name] for name in rows if name not in batch.clips_of]), ()
            seeds = torch.cat([batch[name].seeds for name in rows if name not in batch.clips_of])
        clips, datasets = [batch[name] for name in rows], tuple(factors)
        is_mixed = any(part.label_weights is not None for part in clips)

        def weighed(labels_of: Callable[[ClipBatch], Tensor]) -> Tensor:
            tables = class_weights or {}
            return torch.cat([_weights_of(labels_of(part), tables.get(part.dataset)) for part in clips])

        packed = cls(
            inputs=inputs,
            groups=groups,
            seeds=seeds,
            numbers=torch.cat([torch.full((part.num_clips,), datasets.index(part.dataset)) for part in clips]),
            labels=torch.cat([part.labels for part in clips]),
            factors=torch.tensor(list(factors.values())),
            partner_labels=torch.cat([_partners(part) for part in clips]) if is_mixed else None,
            label_weights=torch.cat([_weights(part) for part in clips]) if is_mixed else None,
            class_weights=weighed(lambda part: part.labels) if class_weights else None,
            partner_class_weights=weighed(_partners) if class_weights and is_mixed else None,
            classes=torch.cat([_classes(part, num_targets) for part in clips]) if num_targets else None,
            rows=torch.cat([torch.arange(part.start, part.stop) for part in rows.values()]) if batch.clips_of else None,
            datasets=datasets,
            sample_ids=tuple(name for part in clips for name in part.sample_ids),
        )
        on_device = {name: tensor.to(device, non_blocking=True) for name, tensor in packed.tensors.items()}
        return replace(packed, **on_device)  # type: ignore[arg-type]

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], layout: Layout) -> PackedBatch:
        """Put a batch together again, without the names of its samples."""
        groups, datasets = layout
        return cls(**tensors, groups=groups, datasets=datasets)  # type: ignore[arg-type]

    @property
    def frames(self) -> PackedFrames:
        """The frames, as a model takes them."""
        return PackedFrames(self.inputs, self.groups, self.seeds)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    @property
    def layout(self) -> Layout:
        """What a step depends on besides the tensors."""
        return self.groups, self.datasets

    def of_dataset(self, number: int) -> tuple[Tensor, PackedBatch]:
        """The clips of `datasets[number]` alone: the positions of its answers, int64 [r], and the smaller batch."""
        positions = (self.numbers == number).nonzero()[:, 0]
        clips = positions if self.rows is None else self.rows[positions]
        own = torch.zeros(len(self.seeds), dtype=torch.bool, device=clips.device).index_fill(0, clips, True)
        inputs, groups = self.inputs[clips] if not self.groups else self.inputs[:0], []
        masks = own.split([group.num_clips for group in self.groups]) if self.groups else ()
        for frames_TB, mask in zip(unpack(self.inputs, self.groups), masks, strict=True):
            if mask.any():  # clips of a dataset are of one length
                inputs, groups = frames_TB[:, mask].flatten(0, 1), [Group(len(frames_TB), int(mask.sum()))]
        others = ("inputs", "factors", "seeds", "rows")
        answers = {name: value[positions] for name, value in self.tensors.items() if name not in others}
        sample_ids = tuple(self.sample_ids[position] for position in positions.tolist())
        own_clips = {"inputs": inputs, "groups": tuple(groups), "seeds": self.seeds[clips], "rows": None}
        part = replace(self, sample_ids=sample_ids, **own_clips, **answers)  # type: ignore[arg-type]
        return positions, part

    def targets(self, number: int) -> Targets:
        """The targets for the head of `datasets[number]`. Clips of other datasets have none."""
        own = self.numbers == number
        labels = torch.where(own, self.labels, UNREADABLE)
        if self.partner_labels is None:
            return Targets(labels, class_weights=self.class_weights, classes=self.classes)
        partner_labels = torch.where(own, self.partner_labels, UNREADABLE)
        weights = self.label_weights, self.class_weights, self.partner_class_weights
        return Targets(labels, partner_labels, *weights, self.classes)


def _rows_of(batch: MixedBatch) -> dict[str, slice]:
    """The positions of each dataset's clips if they are one after another, without frames."""
    rows, first = {}, 0
    for name in (name for name in batch if name not in batch.clips_of):
        rows[name] = slice(first, first + batch[name].num_clips)
        first = rows[name].stop
    return rows | {name: rows[batch.clips_of[name]] for name in batch if name in batch.clips_of}


def _partners(clips: ClipBatch) -> Tensor:
    return clips.labels if clips.partner_labels is None else clips.partner_labels


def _weights(clips: ClipBatch) -> Tensor:
    return torch.ones(clips.num_clips) if clips.label_weights is None else clips.label_weights


def _classes(clips: ClipBatch, num_targets: int) -> Tensor:
    """The targets of clips, float32 [B, num_targets]; zeros for those of one class."""
    if clips.targets is None:
        return torch.zeros(clips.num_clips, num_targets)
    return torch.nn.functional.pad(clips.targets, (0, num_targets - clips.targets.shape[1]))


def _weights_of(labels_B: Tensor, class_weights_C: Tensor | None) -> Tensor:
    """Return the weight of each label's class [B]; that of an unreadable clip has no meaning."""
    if class_weights_C is None:
        return torch.ones(len(labels_B), device=labels_B.device)
    return class_weights_C[labels_B.clamp(min=0)]


def clip_sums(
    logits: Sequence[Tensor], losses: Tensor, batch: PackedBatch, heads: Sequence[HeadLoss] = ()
) -> tuple[Tensor, Tensor]:
    """Count what metrics and guards need.

    Args:
        logits: [B, classes] of each of `batch.datasets`.
        losses: The summed cross-entropy of each dataset.
        batch: The clips.
        heads: The losses of the datasets. A multi-label head is correct if it answers one of the clip's classes.

    Returns:
        Float32 [datasets, 4]: the summed cross-entropy, correct answers, readable clips and unreadable clips of each
        dataset. And bool [B]: whether all logits of a clip are finite, of its own dataset.
    """
    rows, finite = [], torch.ones_like(batch.labels, dtype=torch.bool)
    for number, values in enumerate(logits):
        own, labels = batch.numbers == number, batch.targets(number).labels
        readable = labels != UNREADABLE
        correct = values.argmax(-1).eq(labels)
        if batch.classes is not None and heads and heads[number].num_targets:
            correct = (batch.classes.gather(1, values.argmax(-1, keepdim=True))[:, 0] > 0) & readable
        rows.append(torch.stack([correct.sum(), readable.sum(), (own & ~readable).sum()]))
        finite &= values.isfinite().all(-1) | ~own
    return torch.cat([losses.detach()[:, None], torch.stack(rows)], dim=1), finite
