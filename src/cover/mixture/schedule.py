"""Which samples make up a step: a pure function of the number of the step.

    step 0                          step 1
    k400 k400 ssv2 k400 imagenet …  ssv2 k400 k400 …       batch_size slots a step, apportioned to the datasets
      │    │                                                each dataset in its own shuffled order, new every epoch
      └────┴── Sample("k400", epoch=0, index=1234, partner=87), Sample("k400", epoch=0, index=87, partner=1234), …

Or each step has clips of one dataset alone, and the datasets take turns:

    step 0: k400 k400 k400 k400     step 1: ssv2 ssv2     step 2: k400 k400 k400 k400 …

The position of a run is therefore a single integer, and no sampler state needs to be saved.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import chain
from math import gcd, lcm
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from cover.config.data_sections import MIN_TEMPERATURE
from cover.errors import RecipeError
from cover.mixture.apportion import BalancedSequence, ShuffledRounds
from cover.mixture.shuffle import EvenClasses, hash_63bit, permute

Reduction = Literal["dataset_mean", "expected_mean", "pooled"]
"""How the cross-entropies of a dataset's clips are combined into its loss; see `loss_divisor`."""

MAX_PERIOD = 10**9
"""Slots after which shares repeat, at most. Rates without a shorter period are rounded to parts of this."""


class Sample(NamedTuple):
    """One clip of the stream.

    Attributes:
        dataset: The name of the dataset.
        epoch: How often the dataset has been read before, with repeats counted as further epochs.
        index: The row of the manifest.
        partner: The row that the clip may be mixed with: its neighbour in the dataset's shuffled order. Positions 0 and
            1, 2 and 3, and so on are partners; the last of an odd number is its own partner. Partners do not depend on
            the batch, but are nearly always in the same one.
        lag: The partner's epoch less this one. It is 0 unless classes come equally often: then rows of a small class
            are in a later epoch.
    """

    dataset: str
    epoch: int
    index: int  # type: ignore[assignment]  # shadows tuple.index, which is never called
    partner: int
    lag: int = 0

    def mixed_with(self) -> Sample:
        """Return the partner as a Sample."""
        return Sample(self.dataset, self.epoch + self.lag, self.partner, self.index, -self.lag)


class Schedule:
    """The samples of every step.

    Args:
        sizes: The number of samples of each dataset.
        batch_size: Clips in a step.
        batch_sizes: For steps of one dataset each: clips in a step of each dataset. None mixes the datasets in every
            step. The datasets take turns in a random order that is new every epoch, which is as many steps as have the
            clips of all datasets together, rounded. In each epoch, the number of a dataset's steps is within one of its
            share (PolyViT: V. Likhosherstov et al., 2021; Omnivore: R. Girdhar et al., CVPR 2022).
        seed: Determines the order of every dataset.
        rates: Relative sampling rates, each rounded to a fraction with a denominator of at most a million. If their
            shares then repeat only after more than MAX_PERIOD slots, shares are rounded to one in MAX_PERIOD. None
            samples in proportion to the sizes.
        labels: The label of each row, for datasets whose classes come equally often.
        repeats: How often a row occurs in a batch, each time with another seed (repeated augmentation: E. Hoffer et
            al., "Augment your batch", CVPR 2020). The size of the batch stays the same, so it has that many times fewer
            rows.
        offset: Clips that come before step 0, or a negative number: clips that steps 0 and later leave to others. A run
            whose batch size has changed continues at its clip in this way.

    Attributes:
        shares: The share of each dataset in all clips.
        expected: The expected number of clips of each dataset in a batch.
        clips_per_step: The expected number of clips in a batch.

    Raises:
        RecipeError: A dataset has no samples, a rate is not positive, or `repeats` does not divide a batch size.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        batch_size: int,
        batch_sizes: Mapping[str, int] | None = None,
        seed: int = 0,
        rates: Mapping[str, float] | None = None,
        labels: Mapping[str, npt.NDArray[np.int32]] | None = None,
        repeats: int = 1,
        offset: int = 0,
    ) -> None:
        for size in (batch_size, *(batch_sizes or {}).values()):
            if size % repeats:
                raise RecipeError(
                    f"batch_size {size} with {repeats} repeats of every clip; make it a multiple of {repeats}"
                )
        self.sizes = dict(sizes)
        self.batch_size = batch_size
        self.batch_sizes = batch_sizes and {name: batch_sizes[name] for name in sizes}
        self.repeats = repeats
        self.offset = offset
        self.seed = seed
        weights = self.sizes if rates is None else integer_weights({name: rates[name] for name in sizes})
        for name, size in self.sizes.items():
            if size < 1:
                raise RecipeError(f"dataset {name!r} has {size} samples; a mixture takes at least one; leave it out")
        self._even_classes = {
            name: EvenClasses(values, hash_63bit("classes", seed, name)) for name, values in (labels or {}).items()
        }
        if self.batch_sizes is None:
            total = sum(weights.values())
            self._sequence = BalancedSequence(list(weights.values()))
            self.shares = {name: weight / total for name, weight in weights.items()}
            self.expected = {name: batch_size * weight / total for name, weight in weights.items()}
            self.clips_per_step: float = batch_size
        else:
            largest = max(self.batch_sizes.values())
            turns = integer_weights({name: weights[name] * largest / size for name, size in self.batch_sizes.items()})
            total = sum(turns.values())
            self._sequence = BalancedSequence(list(turns.values()))
            self.expected = {name: size * turns[name] / total for name, size in self.batch_sizes.items()}
            self.clips_per_step = sum(self.expected.values())
            self.shares = {name: expected / self.clips_per_step for name, expected in self.expected.items()}
            epoch_steps = max(1, round(sum(self.sizes.values()) / self.clips_per_step))
            self._turns = ShuffledRounds(self._sequence, epoch_steps, hash_63bit("turns", seed))

    def samples(self, step: int) -> list[Sample]:
        """Return the samples of a step, slot by slot. A slot is `repeats` clips of one row."""
        return [self.shuffled(sample) for sample in self.unshuffled(step)]

    def unshuffled(self, step: int) -> list[Sample]:
        """Like `samples`, with positions in the shuffled order instead of rows, in a fraction of the time."""
        if self.batch_sizes is not None:
            return self.turn_samples(*self._turn(step))
        num_slots = self.batch_size // self.repeats
        start = step * num_slots + self.offset // self.repeats
        names = list(self.sizes)
        positions = self._sequence.counts(start)
        samples = []
        for dataset in self._sequence.slots(start, start + num_slots):
            samples += self._repeats(names[dataset], positions[dataset])
            positions[dataset] += 1
        return samples

    def dataset_of(self, step: int) -> str | None:
        """Return the one dataset of a step; None if steps mix the datasets."""
        return None if self.batch_sizes is None else self._turn(step)[0]

    @property
    def fewest_clips(self) -> int:
        """The clips of the smallest step."""
        return self.batch_size if self.batch_sizes is None else min(self.batch_sizes.values())

    def turn_samples(self, dataset: str, turn: int) -> list[Sample]:
        """Return the unshuffled samples of batch number `turn` of a dataset, where each step has clips of one."""
        assert self.batch_sizes is not None
        num_slots = self.batch_sizes[dataset] // self.repeats
        positions = range(turn * num_slots, (turn + 1) * num_slots)
        return [sample for position in positions for sample in self._repeats(dataset, position)]

    def counts(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Return how many clips of each dataset the loss counts in a step with these samples (see `loss_divisor`).

        Where steps mix the datasets, this is the expected number if the share of a dataset is below one slot a batch,
        so that a clip weighs the same alone and beside others, and if the step has no clip of the dataset.
        """
        present = Counter(sample.dataset for sample in samples)
        if self.batch_sizes is not None:
            return {name: present[name] for name in self.sizes}
        return {
            name: present[name] if present[name] and expected >= self.repeats else expected
            for name, expected in self.expected.items()
        }

    def shuffled(self, sample: Sample) -> Sample:
        """Replace the positions in a sample of `unshuffled` by rows."""
        size = self.sizes[sample.dataset]
        if even := self._even_classes.get(sample.dataset):
            walk, repeat = divmod(sample.epoch, self.repeats)
            (epoch, row), (other_epoch, other_row) = (
                even.row(walk * size + place) for place in (sample.index, sample.partner)
            )
            lag = (other_epoch - epoch) * self.repeats
            return Sample(sample.dataset, epoch * self.repeats + repeat, row, other_row, lag)
        key = hash_63bit("order", self.seed, sample.dataset, sample.epoch // self.repeats)
        return sample._replace(index=permute(sample.index, size, key), partner=permute(sample.partner, size, key))

    def _turn(self, step: int) -> tuple[str, int]:
        """Return the dataset of a step, and the number of its batch among the dataset's batches."""
        number, turn = self._turns.slot(step + self.offset // self.batch_size)
        return list(self.sizes)[number], turn

    def _repeats(self, dataset: str, position: int) -> list[Sample]:
        """Return the clips of slot number `position` of a dataset, unshuffled."""
        size = self.sizes[dataset]
        walk, place = divmod(position, size)
        partner = min(place ^ 1, size - 1)
        return [Sample(dataset, walk * self.repeats + repeat, place, partner) for repeat in range(self.repeats)]


def schedule(
    step: int, *, seed: int, sizes: Mapping[str, int], batch_size: int, rates: Mapping[str, float] | None = None
) -> list[Sample]:
    """Return the samples of one step. To read many steps, keep a Schedule.

    Args:
        step: The number of the step.
        seed: As in Schedule.
        sizes: As in Schedule.
        batch_size: As in Schedule.
        rates: As in Schedule.
    """
    return Schedule(sizes, batch_size=batch_size, seed=seed, rates=rates).samples(step)


def clip_seed(seed: int, sample: Sample) -> int:
    """Return the seed of all randomness of a clip: frames, crop, flip, mixing, drop path.

    It does not depend on the batch that the clip is in.
    """
    return hash_63bit("clip", seed, sample.dataset, sample.epoch, sample.index)


def loss_divisor(count: float, reduction: Reduction, *, pooled: float, repeats: int = 1) -> float:
    """Return the number that the summed cross-entropy of a dataset is divided by.

    "dataset_mean" takes the mean over the dataset's clips in the step. A dataset with a share below one clip a batch is
    not in every step, and each of its clips has weight 1. "expected_mean" gives such a clip the weight 1 / share: over
    many steps the dataset has its full weight, but one clip can outweigh all others and training can diverge. "pooled"
    takes the mean over all clips of the step.

    Args:
        count: Clips of the dataset in the step, or the expected number if the share is below one clip a batch.
        reduction: One of the three above.
        pooled: Clips of all datasets in the step.
        repeats: How often each row occurs in the step.
    """
    match reduction:
        case "dataset_mean":
            return max(count, repeats)
        case "expected_mean":
            return count
        case "pooled":
            return pooled


def slice_samples(samples: Sequence[Sample], num_frames: Mapping[str, int], num_slices: int) -> list[list[Sample]]:
    """Split the samples of a step into slices with equal numbers of frames, up to one clip.

    First, the number of clips of each length is settled: longest clips first, each goes to the slice with the fewest
    frames. Then the slices are filled in order, so that partners stay together unless a slice ends between them.

    Args:
        samples: The samples of a step, shuffled or not.
        num_frames: Dataset → frames of one of its clips.
        num_slices: How many slices to make.

    Returns:
        The samples of each slice.
    """
    takes: list[list[int]] = [[] for _ in range(num_slices)]
    loads = [0] * num_slices
    for frames in sorted((num_frames[sample.dataset] for sample in samples), reverse=True):
        lightest = loads.index(min(loads))
        takes[lightest].append(frames)
        loads[lightest] += frames
    waiting: dict[int, deque[Sample]] = {}
    for sample in _partners_together(samples):
        waiting.setdefault(num_frames[sample.dataset], deque()).append(sample)
    return [[waiting[frames].popleft() for frames in take] for take in takes]


def _partners_together(samples: Sequence[Sample]) -> list[Sample]:
    """Reorder the samples so that partners are adjacent; pairs are ordered by their first sample."""
    pairs: dict[Sample, list[Sample]] = {}
    for sample in samples:
        pairs.setdefault(min(sample, sample.mixed_with()), []).append(sample)
    return list(chain.from_iterable(pairs.values()))


def tempered_rates(sizes: Mapping[str, int], temperature: float) -> dict[str, float]:
    """Return rates in proportion to size ** (1 / temperature), as in translation (N. Arivazhagan et al., 2019).

    Args:
        sizes: The number of samples of each dataset.
        temperature: 1 keeps the sizes, 2 takes their square roots, infinity gives every dataset the same rate.

    Raises:
        RecipeError: The temperature is below 0.1.
    """
    if not temperature >= MIN_TEMPERATURE:
        raise RecipeError(
            f"temperature is {temperature}; it is at least {MIN_TEMPERATURE}, and 1 keeps the shares of the sizes"
        )
    return {name: size ** (1 / temperature) for name, size in sizes.items()}


def integer_weights(rates: Mapping[str, float]) -> dict[str, int]:
    """Return whole numbers in the ratio of the rates, whose sum is a short enough period (see Schedule).

    Raises:
        RecipeError: A rate is below 1e-6.
    """
    exact = {name: Fraction(rate).limit_denominator(1_000_000) for name, rate in rates.items()}
    for name, rate in exact.items():
        if rate <= 0:
            raise RecipeError(f"rate of dataset {name!r} is {rates[name]}; a rate is at least 1e-6; or leave it out")
    scale = lcm(*(rate.denominator for rate in exact.values()))
    weights = {name: int(rate * scale) for name, rate in exact.items()}
    total = sum(weights.values())
    if total // gcd(*weights.values()) <= MAX_PERIOD:
        return weights
    return {name: max(1, round(Fraction(weight * MAX_PERIOD, total))) for name, weight in weights.items()}
