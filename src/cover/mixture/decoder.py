"""Samples of a micro-batch → MixedBatch, in a worker process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.utils.data import Dataset

from cover.clip import UNREADABLE, ClipBatch, MixedBatch
from cover.errors import DecodeError
from cover.media.reader import ClipReader
from cover.mixture.schedule import Sample, clip_seed


class MicroBatch(NamedTuple):
    """What to decode: one rank's slice of a step, with the counts of the whole step."""

    step: int
    samples: list[Sample]
    counts: dict[str, float]


class Decoded(NamedTuple):
    """What came of it. faults: of each dataset, sample id -> why it could not be decoded."""

    batch: MixedBatch
    faults: dict[str, dict[str, DecodeError]]


@dataclass(frozen=True)
class MicroBatchDecoder(Dataset[Decoded]):
    """Decodes micro-batches; a map-style dataset of torch's DataLoader whose keys are MicroBatches."""

    readers: Mapping[str, ClipReader]
    seed: int

    def __getitem__(self, micro_batch: MicroBatch) -> Decoded:
        by_dataset: dict[str, list[Sample]] = {}
        for sample in micro_batch.samples:
            by_dataset.setdefault(sample.dataset, []).append(sample)
        faults: dict[str, dict[str, DecodeError]] = {name: {} for name in by_dataset}
        clips = {name: self._clips(name, samples, faults[name]) for name, samples in by_dataset.items()}
        return Decoded(MixedBatch(clips, micro_batch.counts, micro_batch.step), faults)

    def _clips(self, dataset: str, samples: Sequence[Sample], faults: dict[str, DecodeError]) -> ClipBatch:
        """Frames and labels of one dataset. What cannot be decoded stays zero, unlabelled, and goes into `faults`."""
        reader = self.readers[dataset]
        rows = [reader.manifest[sample.index] for sample in samples]
        sample_ids = tuple(f"{dataset}/{row.sample_id}" for row in rows)
        seeds = [clip_seed(self.seed, *sample) for sample in samples]
        labels = torch.tensor([row.label for row in rows])
        frames = torch.zeros(reader.num_frames, len(samples), 3, reader.crop_px, reader.crop_px, dtype=torch.uint8)
        for place, (sample, seed) in enumerate(zip(samples, seeds, strict=True)):
            try:
                frames[:, place] = reader.train_clip(sample.index, seed)
            except DecodeError as error:
                labels[place] = UNREADABLE
                # Anew: what caused it need not be picklable.
                faults[rows[place].sample_id] = DecodeError(str(error), error.reason)
        return ClipBatch(dataset, frames, labels, sample_ids, torch.tensor(seeds))
