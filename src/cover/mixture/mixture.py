"""The loader: a sequence of datasets in, a stream of MixedBatches out.

step ── slices ── rank 0 ── micro-batch 0 ── worker: schedule(step), decodes its slice ── MixedBatch
               │         └─ micro-batch 1 ── worker: schedule(step), decodes its slice ── MixedBatch
               └─ rank 1 ── …
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from cover.config.clips import ScaleJitter
from cover.core.batch import ClipBatch, MixedBatch
from cover.datasets.class_list import mirror_pairs
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError, RecipeError
from cover.media.cache import FrameCache
from cover.media.mixing import Mixing
from cover.media.randaugment import RandAugment
from cover.media.reader import ClipReader
from cover.media.sampling import Window
from cover.media.workers import in_workers
from cover.mixture.decode_failures import DecodeFailures
from cover.mixture.decoder import MicroBatch, MicroBatchDecoder
from cover.mixture.schedule import Schedule, slice_samples, tempered_rates


@dataclass(frozen=True)
class Dataset:
    """One dataset of a mixture.

    Attributes:
        manifest: An open manifest, or the path of one.
        name: The name of the dataset and of its head; by default the manifest's.
        clips_of: The dataset of the mixture, with the same samples, whose clips get a further label from this one.
        num_frames: T of a clip; an image always has one frame.
        short_side_px: (min, max) of the short side of a frame before cropping; by default the mixture's.
        scale_jitter: How that size is drawn: "uniform", or "inverse_uniform", so that its inverse is even.
        loss_weight: The weight w_i of the dataset's mean loss.
        horizontal_flip: Whether half of the clips are mirrored. Switch it off if mirroring changes the label.
        mirror_pairs: Pairs of classes that become each other when a clip is mirrored; "auto" takes those whose names
            swap left and right.
        rate: The dataset's share of a batch relative to the rates of the others. If no dataset has a rate, shares
            follow the sizes (see `temperature` of Mixture).
        batch_size: Clips in a step of this dataset, if each step has clips of one; by default the mixture's.
        class_balanced: Whether its classes come equally often. By default, samples do.
        temporal_jitter: Draw each frame at a random time within one of T equal parts of the clip, instead of its
            middle.
        window: The part of a video that a clip shows, at a random time; None is all of it.
        cache_frames: Decode every sample once, before the first batch, and keep the frames in memory.
        cached_per_frame: How many frames are kept for each frame of a clip; temporal jitter draws one of them.
        cache_folder: Where to keep these frames as memory-mapped files, which all processes that need them share.
        random_resized_crop: (min, max) share of the frame's area that a crop has, instead of `short_side_px`.
        color_jitter: How far brightness, contrast and saturation change, from 0 to 1.
        random_erasing: How often a box of the clip is erased, from 0 to 1.
        randaugment: Operations on the pixels of every clip; none by default.
        mixing: How clips are mixed with others of this dataset (mixup, CutMix); off by default.

    Raises:
        RecipeError: A value is impossible.
    """

    manifest: Manifest | str | Path
    name: str | None = None
    clips_of: str | None = None
    num_frames: int = 8
    short_side_px: tuple[int, int] | None = None
    scale_jitter: ScaleJitter = "uniform"
    loss_weight: float = 1.0
    horizontal_flip: bool = True
    mirror_pairs: Literal["auto"] | tuple[tuple[str, str], ...] = ()
    rate: float | None = None
    batch_size: int | None = None
    class_balanced: bool = False
    temporal_jitter: bool = False
    window: Window | None = None
    cache_frames: bool = False
    cached_per_frame: int = 1
    cache_folder: Path | None = None
    random_resized_crop: tuple[float, float] | None = None
    color_jitter: float = 0.0
    random_erasing: float = 0.0
    randaugment: RandAugment = field(default_factory=RandAugment)
    mixing: Mixing = field(default_factory=Mixing)

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise RecipeError(f"num_frames is {self.num_frames}; a clip has at least 1")
        if self.loss_weight < 0:
            raise RecipeError(f"loss_weight is {self.loss_weight}; a weight is 0 or more")
        if self.temporal_jitter and self.cache_frames and self.cached_per_frame == 1:
            raise RecipeError(
                "temporal_jitter with cache_frames; one kept frame leaves no choice: set cached_per_frame = 4, or "
                "switch one of them off"
            )
        if self.window and self.cache_frames:
            raise RecipeError(
                "sampling by windows with cache_frames; their random places are not kept: switch one of them off"
            )
        if self.cache_folder and not self.cache_frames:
            raise RecipeError(
                f"cache_folder {self.cache_folder} without cache_frames; it keeps their frames: switch cache_frames on"
            )

    def reader(self, *, crop_px: int, short_side_px: tuple[int, int]) -> ClipReader:
        """Return a reader of this dataset's clips, without its cache.

        Args:
            crop_px: The side of the square crops.
            short_side_px: The mixture's.

        Raises:
            ManifestError: The manifest cannot be opened.
            RecipeError: The arguments contradict each other.
        """
        manifest = self.manifest if isinstance(self.manifest, Manifest) else Manifest.open(self.manifest)
        num_frames = 1 if manifest.kind == "image" else self.num_frames
        return ClipReader(
            manifest,
            num_frames,
            crop_px,
            self.short_side_px or short_side_px,
            self.horizontal_flip,
            temporal_jitter=self.temporal_jitter,
            window=self.window,
            scale_jitter=self.scale_jitter,
            mirror_pairs=mirror_pairs(manifest.class_names) if self.mirror_pairs == "auto" else self.mirror_pairs,
            random_resized_crop=self.random_resized_crop,
            color_jitter=self.color_jitter,
            random_erasing=self.random_erasing,
            randaugment=self.randaugment,
        )

    def with_cache(self, reader: ClipReader, *, num_processes: int = 0) -> ClipReader:
        """Return the reader with every sample in memory, if `cache_frames` is on.

        Args:
            reader: A reader of this dataset.
            num_processes: How many processes decode what is not cached yet.

        Raises:
            CoverError: See FrameCache.fill.
        """
        if not self.cache_frames:
            return reader
        cache = FrameCache.fill(
            reader.manifest,
            num_frames=reader.num_frames * (self.cached_per_frame if reader.manifest.kind == "video" else 1),
            max_short_side_px=reader.short_side_px[1],
            num_processes=num_processes,
            folder=self.cache_folder,
        )
        return replace(reader, cache=cache)


class Mixture(Iterable[MixedBatch]):
    """Batches drawn from many datasets at once.

        mixture = Mixture(["k400-train.arrow", "imagenet-train.arrow"], batch_size=128, image_size=224)
        for epoch in range(20):
            for batch in mixture:       # one training epoch: {"k400": ClipBatch, "imagenet": ClipBatch}
                ...

    An iteration ends after `num_steps` steps, by default one epoch, and moves `self.step` forward. Iterate again for
    the next epoch, in another order. The content of a step depends only on the datasets, the seed and the number of the
    step. A new mixture with that number as its `start_step` continues in exactly the same way. Closing an iterator, for
    example by contextlib.closing, ends its decoding processes at once.

    Args:
        datasets: Datasets, or paths of manifests.
        batch_size: Clips in a step, over all ranks and micro-batches.
        batches: Whether a step has clips of all datasets ("mixed") or of one, with the datasets taking turns
            ("one_dataset"; see Schedule).
        image_size: The side of the square crops, in pixels.
        short_side_px: (min, max) that the short side of a frame is scaled to before cropping. By default (256, 320) at
            image_size 224, (448, 512) at 448, and otherwise in proportion to 224.
        temperature: Without rates, shares are in proportion to size ** (1 / temperature): 1 keeps the sizes, 2 takes
            square roots, infinity makes all shares equal.
        seed: Determines the order of the samples and all augmentation.
        start_step: The number of the first step.
        num_steps: Steps of one iteration; by default one training epoch.
        offset: Clips that come before step 0 (see Schedule).
        num_workers: Processes that decode batches and fill caches; 0 decodes in this process.
        rank: The number of this process. Each process receives its own slice of every step.
        world_size: The number of processes.
        num_micro_batches: How many MixedBatches this rank's slice of a step is divided into.
        repeats: How often each row occurs in a batch, augmented differently each time (see Schedule).
        max_unreadable_share: The largest share of any dataset's samples that may be unreadable. Beyond it, iterating
            raises DecodeError; several ranks raise it together, in `unreadable.share`.
        pin_memory: Whether batches lie in page-locked memory.

    Attributes:
        clips_of: {dataset: the one whose clips it has}, see Dataset.
        unreadable: The samples that could not be decoded.

    Raises:
        RecipeError: The datasets cannot be mixed.
        ManifestError: A manifest cannot be opened.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset | str | Path],
        *,
        batch_size: int,
        image_size: int,
        batches: Literal["mixed", "one_dataset"] = "mixed",
        short_side_px: tuple[int, int] | None = None,
        temperature: float = 1.0,
        seed: int = 0,
        start_step: int = 0,
        num_steps: int | None = None,
        offset: int = 0,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_micro_batches: int = 1,
        repeats: int = 1,
        max_unreadable_share: float = 0.01,
        pin_memory: bool = False,
    ) -> None:
        specs = [dataset if isinstance(dataset, Dataset) else Dataset(dataset) for dataset in datasets]
        short_side_px = short_side_px or default_short_side_px(image_size)
        readers = [spec.reader(crop_px=image_size, short_side_px=short_side_px) for spec in specs]
        names = [spec.name or reader.manifest.name for spec, reader in zip(specs, readers, strict=True)]
        _check_names(names)
        self.datasets = dict(zip(names, specs, strict=True))
        self.readers = dict(zip(names, readers, strict=True))
        self.clips_of = {name: spec.clips_of for name, spec in self.datasets.items() if spec.clips_of is not None}
        _check_same_samples(self.readers, self.clips_of)
        sizes = {name: len(reader.manifest) for name, reader in self.readers.items() if name not in self.clips_of}
        labels = {
            name: _one_label_each(name, self.readers[name].manifest)
            for name, spec in self.datasets.items()
            if spec.class_balanced
        }
        sampled = {name: self.datasets[name] for name in sizes}
        rates = _rates(sampled) or (tempered_rates(sizes, temperature) if temperature != 1 else None)
        own = {name: dataset.batch_size or batch_size for name, dataset in sampled.items()}
        self.schedule = Schedule(
            sizes,
            batch_size=batch_size,
            batch_sizes=own if batches == "one_dataset" else None,
            seed=seed,
            rates=rates,
            labels=labels,
            repeats=repeats,
            offset=offset,
        )
        if self.schedule.fewest_clips < world_size * num_micro_batches:
            raise RecipeError(
                f"batch_size {self.schedule.fewest_clips} is split over {world_size} processes x {num_micro_batches} "
                "micro-batches; each needs at least one clip: enlarge the batch or split it less"
            )
        self.step = start_step
        epoch_steps = math.ceil(sum(sizes.values()) / self.schedule.clips_per_step)
        self.num_steps = epoch_steps if num_steps is None else num_steps
        self.num_workers = num_workers
        self.rank = rank
        self.world_size = world_size
        self.num_micro_batches = num_micro_batches
        self.pin_memory = pin_memory
        self.unreadable = DecodeFailures(max_unreadable_share, self.schedule.sizes, world_size)

    def __iter__(self) -> Generator[MixedBatch]:
        return self._batches(self._decoder)  # fills the caches now, not with the first batch

    def _batches(self, decoder: MicroBatchDecoder) -> Generator[MixedBatch]:
        start = self.step
        keys = self._micro_batches(range(start, start + self.num_steps))
        with closing(in_workers(decoder, keys, num_workers=self.num_workers, pin_memory=self.pin_memory)) as decoded:
            for number, (batch, failures) in enumerate(decoded, start=1):
                self.unreadable.add(failures)
                self.step = start + number // self.num_micro_batches
                yield batch

    @property
    def shares(self) -> dict[str, float]:
        """The share of each dataset in all clips."""
        return self.schedule.shares

    @property
    def loss_weights(self) -> dict[str, float]:
        """The factor of each dataset's loss (Dataset.loss_weight)."""
        return {name: dataset.loss_weight for name, dataset in self.datasets.items()}

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each dataset's manifest. Equal digests and equal steps give equal batches."""
        return {name: reader.manifest.digest for name, reader in self.readers.items()}

    @property
    def class_names(self) -> dict[str, tuple[str, ...]]:
        """The class names of each dataset, in label order."""
        return {name: reader.manifest.class_names for name, reader in self.readers.items()}

    def blank_batch(self, num_micro_batches: int, dataset: str | None = None) -> MixedBatch:
        """Return black clips, as many as in the largest micro-batch of a step: the batch that must fit into memory.

        Args:
            num_micro_batches: How many micro-batches each rank's slice of a step is divided into.
            dataset: That of the step, if each step has clips of one; by default the one with the most frames in a step.
        """
        num_frames = {name: reader.num_frames for name, reader in self.readers.items()}
        samples = self.schedule.unshuffled(self.step)
        if sizes := self.schedule.batch_sizes:
            most = max(sizes, key=lambda name: sizes[name] * num_frames[name])
            samples = self.schedule.turn_samples(dataset or most, 0)
        largest = slice_samples(samples, num_frames, self.world_size * num_micro_batches)[0]
        clips = {}
        for name, num_clips in Counter(sample.dataset for sample in largest).items():
            px = self.readers[name].crop_px
            clips[name] = ClipBatch(
                name,
                torch.zeros(num_frames[name], num_clips, 3, px, px, dtype=torch.uint8),
                torch.zeros(num_clips, dtype=torch.int64),
                ("",) * num_clips,
                torch.zeros(num_clips, dtype=torch.int64),
            )
        for name, owner in self.clips_of.items():
            if owner in clips:
                clips[name] = replace(clips[owner].without_pixels(), dataset=name)
        return MixedBatch(clips, self.schedule.counts(samples), self.step, self.schedule.repeats, self.clips_of)

    @cached_property
    def _decoder(self) -> MicroBatchDecoder:
        readers = {
            name: reader
            if name in self.clips_of
            else self.datasets[name].with_cache(reader, num_processes=self.num_workers)
            for name, reader in self.readers.items()
        }
        mixings = {name: dataset.mixing for name, dataset in self.datasets.items()}
        return MicroBatchDecoder(readers, mixings, self.schedule, self.clips_of)

    def _micro_batches(self, steps: Iterable[int]) -> Iterator[MicroBatch]:
        """Yield this rank's parts of the steps."""
        num_slices = self.world_size * self.num_micro_batches
        for step in steps:
            # Every world_size-th part, because slices with more frames come first.
            for part in range(self.rank, num_slices, self.world_size):
                yield MicroBatch(step, part, num_slices)


def default_short_side_px(image_size: int) -> tuple[int, int]:
    """Return the usual (min, max) of the short side in pixels, before a crop of `image_size`.

    It is (256, 320) at 224, (448, 512) at 448, and otherwise in proportion to 224.
    """
    return (448, 512) if image_size == 448 else (round(image_size * 256 / 224), round(image_size * 320 / 224))


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise RecipeError("no datasets; a mixture needs at least one")
    name, occurrences = Counter(names).most_common(1)[0]
    if occurrences > 1:
        raise RecipeError(f"{occurrences} datasets are named {name!r}; names must differ: rename one")


def _one_label_each(name: str, manifest: Manifest) -> npt.NDArray[np.int32]:
    if manifest.is_multi_label:
        raise RecipeError(
            f"class_balanced of dataset {name!r} takes samples of one class, and its samples have several; leave it out"
        )
    return manifest.labels


def _check_same_samples(readers: Mapping[str, ClipReader], clips_of: Mapping[str, str]) -> None:
    for name, owner in clips_of.items():
        if owner not in readers or owner in clips_of:
            raise RecipeError(f"clips_of of {name!r} is {owner!r}; name a dataset with clips of its own")
        check_same_samples(name, readers[name].manifest, owner, readers[owner].manifest)


def check_same_samples(name: str, manifest: Manifest, owner: str, other: Manifest) -> None:
    """Check that a dataset can have the clips of another.

    Args:
        name: The dataset.
        manifest: Its samples.
        owner: The dataset whose clips it has.
        other: The samples of that.

    Raises:
        ManifestError: The samples differ.
    """
    if not manifest.has_samples_of(other):
        raise ManifestError(
            f"datasets.{name} has clips_of {owner!r}, and the samples of {manifest.path} are not those of {other.path} "
            "in the same order; index both from the same list"
        )


def _rates(datasets: dict[str, Dataset]) -> dict[str, float] | None:
    rates = {name: dataset.rate for name, dataset in datasets.items() if dataset.rate is not None}
    if rates and len(rates) < len(datasets):
        raise RecipeError(f"{next(iter(rates))!r} has a rate and others have none; give a rate to all or to none")
    return rates or None
