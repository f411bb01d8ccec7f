"""Decode a slice of a step into a MixedBatch, in a worker process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    """

    readers: Mapping[str, ClipReader]
    mixings: Mapping[str, Mixing]
    schedule: Schedule

    def __call__(self, micro_batch: MicroBatch) -> DecodedMicroBatch:
        """Decode one micro-batch."""
        step = self.schedule.unshuffled(micro_batch.step)  # shuffling the samples of other slices would waste time
        num_frames = {name: reader.num_frames for name, reader in self.readers.items()}
        by_dataset: dict[str, list[Sample]] = {}
        for sample in slice_samples(step, num_frames, micro_batch.num_slices)[micro_batch.part]:
            by_dataset.setdefault(sample.dataset, []).append(self.schedule.shuffled(sample))
        failures: list[DecodeFailure] = []
        clips = {name: self._clips(name, samples, failures) for name, samples in by_dataset.items()}
        mixed = {name: self._mixed(clips[name], by_dataset[name]) for name in clips if self.mixings[name].is_on}
        counts, repeats = self.schedule.counts(step), self.schedule.repeats
        return DecodedMicroBatch(MixedBatch(clips | mixed, counts, micro_batch.step, repeats), failures)

    def _clips(self, dataset: str, samples: Sequence[Sample], failures: list[DecodeFailure]) -> ClipBatch:
        """Decode clips of one dataset. Those that fail are zero and unlabelled, and are added to `failures`."""
        reader = self.readers[dataset]
        indices = [sample.index for sample in samples]
        sample_ids = reader.manifest.sample_ids(indices)
        seeds = [clip_seed(self.schedule.seed, sample) for sample in samples]
        labels = torch.from_numpy(reader.manifest.labels_of(indices)).long()
        targets = torch.from_numpy(reader.manifest.targets_of(indices)) if reader.manifest.is_multi_label else None
        mirror = torch.tensor(reader.mirrored_labels)
        frames = empty_frames(reader.num_frames, len(samples), 3, reader.crop_px, reader.crop_px)
        for place, (sample, seed) in enumerate(zip(samples, seeds, strict=True)):
            try:
                frames[:, place], is_mirrored = reader.train_sample(sample.index, seed)
                if is_mirrored:
                    labels[place] = mirror[labels[place]]
                    if targets is not None:
                        targets[place] = targets[place, mirror]
            except DecodeError as error:
                frames[:, place], labels[place] = 0, UNREADABLE
                failures.append(DecodeFailure(dataset, sample_ids[place], str(error), error.reason))
        names = tuple(f"{dataset}/{sample_id}" for sample_id in sample_ids)
        return ClipBatch(dataset, frames, labels, names, torch.tensor(seeds), targets=targets)

    def _mixed(self, clips: ClipBatch, samples: Sequence[Sample]) -> ClipBatch:
        """Mix the clips with their partners. A clip stays as it is if it or its partner cannot be decoded.

        The failure of a partner is not recorded here, but where that partner is a sample itself.
        """
        places = {sample: place for place, sample in enumerate(samples)}
        frames, partner_labels, weights = clips.frames.clone(), clips.labels.clone(), torch.ones(clips.num_clips)
        targets = None if clips.targets is None else clips.targets.clone()
        for place, sample in enumerate(samples):
            if clips.labels[place] == UNREADABLE:
                continue
            partner, label, partner_targets = self._partner(sample.mixed_with(), clips, places)
            if label == UNREADABLE:
                continue
            rng = np.random.default_rng(hash_63bit("mixing", int(clips.seeds[place])))
            mixed, weights[place] = self.mixings[clips.dataset](clips.frames[:, place], partner, rng)
            frames[:, place], partner_labels[place] = mixed, label
            if targets is not None and partner_targets is not None:
                targets[place].lerp_(partner_targets, 1 - float(weights[place]))
        return replace(clips, frames=frames, partner_labels=partner_labels, label_weights=weights, targets=targets)

    def _partner(
        self, sample: Sample, clips: ClipBatch, places: Mapping[Sample, int]
    ) -> tuple[Tensor, int, Tensor | None]:
        """Return frames [T,C,Y,X], label and targets [classes] of a partner.

        They come from the batch or, if a slice separates the pair, from the file.
        """
        if sample not in places:
            clips, places = self._clips(sample.dataset, [sample], failures=[]), {sample: 0}
        place = places[sample]
        return clips.frames[:, place], int(clips.labels[place]), None if clips.targets is None else clips.targets[place]
