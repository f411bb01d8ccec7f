"""Decode a slice of a step into a MixedBatch, in a worker process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cover.core.batch import UNREADABLE, ClipBatch, MixedBatch
from cover.errors import DecodeError
from cover.media.mixing import Mixing
from cover.media.reader import ClipReader
from cover.media.shared_memory import empty_frames
from cover.mixture.decode_failures import DecodeFailure
from cover.mixture.schedule import Sample, Schedule, clip_seed, slice_samples
from cover.mixture.shuffle import hash_63bit


class MicroBatch(NamedTuple):
    """What to decode: part number `part` of `num_slices` equal parts of a step."""

    step: int
    part: int
    num_slices: int


class DecodedMicroBatch(NamedTuple):
    """A decoded micro-batch, and the clips that could not be decoded."""

    batch: MixedBatch
    failures: list[DecodeFailure]

    def pin_memory(self) -> DecodedMicroBatch:
        """Return the same batch in page-locked memory."""
        return self._replace(batch=self.batch.pin_memory())


@dataclass(frozen=True)
class MicroBatchDecoder:
    """Decodes micro-batches.

    Attributes:
        readers: Dataset → reader of its clips.
        mixings: Dataset → how its clips are mixed.
        schedule: The samples of each step.
        clips_of: {dataset: the one whose clips it has}, see Dataset of mixture.py.
    """

    readers: Mapping[str, ClipReader]
    mixings: Mapping[str, Mixing]
    schedule: Schedule
    clips_of: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, micro_batch: MicroBatch) -> DecodedMicroBatch:
        """Decode one micro-batch."""
        step = self.schedule.unshuffled(micro_batch.step)  # shuffling the samples of other slices would waste time
        num_frames = {name: reader.num_frames for name, reader in self.readers.items()}
        by_dataset: dict[str, list[Sample]] = {}
        for sample in slice_samples(step, num_frames, micro_batch.num_slices)[micro_batch.part]:
            by_dataset.setdefault(sample.dataset, []).append(self.schedule.shuffled(sample))
        failures: list[DecodeFailure] = []
        clips: dict[str, ClipBatch] = {}
        for name, samples in by_dataset.items():
            own = self._clips(name, samples, failures)
            clips |= self._mixed(own, samples) if self.mixings[name].is_on else own
        counts = self.schedule.counts(step)
        batch = MixedBatch(clips, counts, micro_batch.step, self.schedule.repeats, self.clips_of)
        return DecodedMicroBatch(batch, failures)

    def _clips(self, dataset: str, samples: Sequence[Sample], failures: list[DecodeFailure]) -> dict[str, ClipBatch]:
        """Decode clips of one dataset. Those that fail are zero and unlabelled, and are added to `failures`.

        Returns:
            The clips, and without pixels those of the datasets that only add labels to them.
        """
        reader = self.readers[dataset]
        indices = [sample.index for sample in samples]
        seeds = [clip_seed(self.schedule.seed, sample) for sample in samples]
        frames = empty_frames(reader.num_frames, len(samples), 3, reader.crop_px, reader.crop_px)
        failed, mirrored = torch.zeros(2, len(samples), dtype=torch.bool)
        for place, (sample, seed) in enumerate(zip(samples, seeds, strict=True)):
            try:
                frames[:, place], mirrored[place] = reader.train_sample(sample.index, seed)
            except DecodeError as error:
                frames[:, place], failed[place] = 0, True
                (sample_id,) = reader.manifest.sample_ids([sample.index])
                failures.append(DecodeFailure(dataset, sample_id, str(error), error.reason))
        ids = tuple(f"{dataset}/{sample_id}" for sample_id in reader.manifest.sample_ids(indices))
        labels, targets = self._labels(dataset, indices, failed, mirrored)
        own = ClipBatch(dataset, frames, labels, ids, torch.tensor(seeds), targets=targets)
        clips = {dataset: own}
        for name in (name for name, owner in self.clips_of.items() if owner == dataset):
            labels, targets = self._labels(name, indices, failed, mirrored)
            clips[name] = replace(own.without_pixels(), dataset=name, labels=labels, targets=targets)
        return clips

    def _labels(
        self, dataset: str, indices: Sequence[int], failed: Tensor, mirrored: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The labels of decoded clips, int64 [B], and their targets [B, classes] if they have several classes."""
        reader = self.readers[dataset]
        mirror = torch.tensor(reader.mirrored_labels)
        labels = torch.from_numpy(reader.manifest.labels_of(indices)).long()
        labels = torch.where(mirrored, mirror[labels], labels).where(~failed, UNREADABLE)
        if not reader.manifest.is_multi_label:
            return labels, None
        targets = torch.from_numpy(reader.manifest.targets_of(indices))
        return labels, torch.where(mirrored[:, None], targets[:, mirror], targets)

    def _mixed(self, clips: Mapping[str, ClipBatch], samples: Sequence[Sample]) -> dict[str, ClipBatch]:
        """Mix the clips of `_clips` with their partners. A clip stays as it is if it or its partner cannot be decoded.

        The failure of a partner is not recorded here, but where that partner is a sample itself.
        """
        dataset = samples[0].dataset
        own, places = clips[dataset], {sample: place for place, sample in enumerate(samples)}
        frames, weights, mixed = own.frames.clone(), torch.ones(own.num_clips), dict[str, ClipBatch]()
        partner_labels = {name: labelled.labels.clone() for name, labelled in clips.items()}
        targets = {name: labelled.targets.clone() for name, labelled in clips.items() if labelled.targets is not None}
        for place, sample in enumerate(samples):
            if own.labels[place] == UNREADABLE:
                continue
            partners, other = self._partner(sample.mixed_with(), clips, places)
            if partners[dataset].labels[other] == UNREADABLE:
                continue
            rng = np.random.default_rng(hash_63bit("mixing", int(own.seeds[place])))
            partner = partners[dataset].frames[:, other]
            frames[:, place], weights[place] = self.mixings[dataset](own.frames[:, place], partner, rng)
            for name, labelled in partners.items():
                partner_labels[name][place] = labelled.labels[other]
                if labelled.targets is not None:
                    targets[name][place].lerp_(labelled.targets[other], 1 - float(weights[place]))
        for name, labelled in clips.items():
            mixed[name] = replace(
                labelled, partner_labels=partner_labels[name], label_weights=weights, targets=targets.get(name)
            )
        return mixed | {dataset: replace(mixed[dataset], frames=frames)}

    def _partner(
        self, sample: Sample, clips: Mapping[str, ClipBatch], places: Mapping[Sample, int]
    ) -> tuple[Mapping[str, ClipBatch], int]:
        """Return clips of `_clips` that have a partner, and its place in them.

        They are those of the batch or, if a slice separates the pair, decoded from the file.
        """
        if sample in places:
            return clips, places[sample]
        return self._clips(sample.dataset, [sample], failures=[]), 0
