"""Which samples make up a step: a pure function of the step.

    step 0                          step 1
    k400 k400 ssv2 k400 imagenet …  ssv2 k400 k400 …       batch_size slots a step, apportioned over the datasets
      │    │                                                each dataset walked in its own shuffle, anew every epoch
      └────┴── Sample("k400", epoch=0, index=1234), Sample("k400", epoch=0, index=87), …

So the whole position of a run is one integer, and no sampler state is ever saved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import lcm
from typing import NamedTuple

from cover.errors import RecipeError
from cover.mixture.apportion import BalancedSequence
from cover.mixture.permutation import hash_63bit, permute


class Sample(NamedTuple):
    """One clip of the stream: row `index` of a dataset, on its walk number `epoch` through that dataset."""

    dataset: str
    epoch: int
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls


class Schedule:
    """The samples of every step.

    sizes: number of samples of each dataset.
    rates: relative sampling rates, exact to one in a million; None samples in proportion to the sizes.

    Raises RecipeError when a dataset has no samples, or a rate that is not positive.
    """

    def __init__(
        self, sizes: Mapping[str, int], *, batch_size: int, seed: int = 0, rates: Mapping[str, float] | None = None
    ) -> None:
        self.sizes = dict(sizes)
        self.batch_size = batch_size
        self.seed = seed
        weights = self.sizes if rates is None else _integer_weights({name: rates[name] for name in sizes})
        for name, size in self.sizes.items():
            if size < 1:
                raise RecipeError(f"dataset {name!r} has {size} samples; a mixture takes at least one; leave it out")
        self._sequence = BalancedSequence(list(weights.values()))
        total = sum(weights.values())
        self.shares = {name: weight / total for name, weight in weights.items()}
        self.expected = {name: batch_size * weight / total for name, weight in weights.items()}

    def samples(self, step: int) -> list[Sample]:
        """The `batch_size` samples of a step, in the order of their slots."""
        start = step * self.batch_size
        names = list(self.sizes)
        positions = self._sequence.counts(start)
        samples = []
        for dataset in self._sequence.slots(start, start + self.batch_size):
            samples.append(self._sample(names[dataset], positions[dataset]))
            positions[dataset] += 1
        return samples

    def counts(self, samples: Sequence[Sample]) -> dict[str, float]:
        """What the loss of a step with these samples divides each dataset's sum by.

        The number of its samples; its expectation where the share is below one clip a batch, so that a sample weighs
        the same whether or not it has company, or where the step has none of it.
        """
        present = Counter(sample.dataset for sample in samples)
        return {
            name: present[name] if present[name] and expected >= 1 else expected
            for name, expected in self.expected.items()
        }

    def _sample(self, dataset: str, position: int) -> Sample:
        epoch, place = divmod(position, self.sizes[dataset])
        key = hash_63bit("order", self.seed, dataset, epoch)
        return Sample(dataset, epoch, permute(place, self.sizes[dataset], key))


def schedule(
    step: int, *, seed: int, sizes: Mapping[str, int], batch_size: int, rates: Mapping[str, float] | None = None
) -> list[Sample]:
    """The samples of one step; to read many steps, keep a Schedule."""
    return Schedule(sizes, batch_size=batch_size, seed=seed, rates=rates).samples(step)


def clip_seed(seed: int, dataset: str, epoch: int, index: int) -> int:
    """Seed of all randomness about a clip (frames, crop, flip, drop path), whatever batch it lands in."""
    return hash_63bit("clip", seed, dataset, epoch, index)


def slice_samples(samples: Sequence[Sample], num_frames: Mapping[str, int], num_slices: int) -> list[list[Sample]]:
    """Split the samples of a step into slices with equal numbers of frames, give or take one clip.

    num_frames: frames of one clip of each dataset. Longest clips first, each to the slice with the fewest frames.
    """
    slices: list[list[Sample]] = [[] for _ in range(num_slices)]
    loads = [0] * num_slices
    for sample in sorted(samples, key=lambda sample: -num_frames[sample.dataset]):
        lightest = loads.index(min(loads))
        slices[lightest].append(sample)
        loads[lightest] += num_frames[sample.dataset]
    return slices


def _integer_weights(rates: Mapping[str, float]) -> dict[str, int]:
    exact = {name: Fraction(rate).limit_denominator(1_000_000) for name, rate in rates.items()}
    for name, rate in exact.items():
        if rate <= 0:
            raise RecipeError(f"rate of dataset {name!r} is {rates[name]}; a rate is at least 1e-6; or leave it out")
    scale = lcm(*(rate.denominator for rate in exact.values()))
    return {name: int(rate * scale) for name, rate in exact.items()}
