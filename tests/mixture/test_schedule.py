from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cover.errors import RecipeError
from cover.mixture.apportion import BalancedSequence
from cover.mixture.schedule import (
    Sample,
    Schedule,
    clip_seed,
    integer_weights,
    schedule,
    slice_samples,
    tempered_rates,
)
from cover.mixture.shuffle import hash_63bit, permute

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=20).map(
    lambda sizes: {f"dataset{number}": size for number, size in enumerate(sizes)}
)
BATCH_SIZE = st.integers(1, 64)


@given(sizes=SIZES, batch_size=BATCH_SIZE)
def test_an_epoch_reads_every_sample_once(sizes: dict[str, int], batch_size: int) -> None:
    mixture = Schedule(sizes, batch_size=batch_size)
    total = sum(sizes.values())
    stream = [sample for step in range(-(-total // batch_size)) for sample in mixture.samples(step)]
    rows = {(sample.dataset, sample.epoch, sample.index) for sample in stream[:total]}
    assert rows == {(name, 0, index) for name, size in sizes.items() for index in range(size)}


@given(sizes=SIZES, batch_size=BATCH_SIZE, num_steps=st.integers(1, 20))
def test_totals_stay_within_one_sample_of_the_shares(sizes: dict[str, int], batch_size: int, num_steps: int) -> None:
    mixture = Schedule(sizes, batch_size=batch_size)
    totals: Counter[str] = Counter()
    for step in range(num_steps):
        totals.update(sample.dataset for sample in mixture.samples(step))
        for name, size in sizes.items():
            assert abs(totals[name] - (step + 1) * batch_size * size / sum(sizes.values())) <= 1


@given(sizes=SIZES, batch_size=BATCH_SIZE, step=st.integers(0, 200), seed=st.integers(0, 2**32))
def test_a_step_is_the_same_however_it_is_reached(sizes: dict[str, int], batch_size: int, step: int, seed: int) -> None:
    walked = Schedule(sizes, batch_size=batch_size, seed=seed)
    for earlier in range(max(step - 3, 0), step):
        walked.samples(earlier)
    assert walked.samples(step) == schedule(step, seed=seed, sizes=sizes, batch_size=batch_size)


def test_rates_replace_sizes_and_a_small_dataset_is_walked_again() -> None:
    mixture = Schedule({"large": 1000, "small": 10}, batch_size=12, rates={"large": 0.5, "small": 0.25})
    samples = [sample for step in range(10) for sample in mixture.samples(step)]
    assert Counter(sample.dataset for sample in samples) == {"large": 80, "small": 40}
    small = [sample for sample in samples if sample.dataset == "small"]
    walks = [[sample.index for sample in small if sample.epoch == epoch] for epoch in range(4)]
    assert all(sorted(walk) == list(range(10)) for walk in walks)
    assert walks[0] != walks[1]


@given(
    sizes=st.lists(st.integers(1, 3_000_000), min_size=1, max_size=12),
    temperature=st.sampled_from([1, 1.5, 2, 3.7, math.inf]),
    num_slots=st.integers(0, 10**8),
)
def test_counts_follow_the_temperature_anywhere_in_a_long_run(
    sizes: list[int], temperature: float, num_slots: int
) -> None:
    """Within one clip of the irrational shares, and one in 10 million."""
    named = {f"dataset{number}": size for number, size in enumerate(sizes)}
    counts = BalancedSequence(list(integer_weights(tempered_rates(named, temperature)).values())).counts(num_slots)
    powers = [Fraction(size ** (1 / temperature)) for size in sizes]
    assert sum(counts) == num_slots
    for count, power in zip(counts, powers, strict=True):
        assert abs(count - num_slots * power / sum(powers)) <= 1 + num_slots / 10**7


@pytest.mark.parametrize(
    ("temperature", "shares"), [(1, [0.9, 0.09, 0.01]), (2, [0.3, 0.0949, 0.0316]), (math.inf, [1, 1, 1])]
)
def test_a_higher_temperature_evens_out_shares(temperature: float, shares: list[float]) -> None:
    sizes = {"large": 9000, "middle": 900, "small": 100}
    shares = [share / sum(shares) for share in shares]
    mixture = Schedule(sizes, batch_size=10, rates=tempered_rates(sizes, temperature))
    assert list(mixture.shares.values()) == pytest.approx(shares, rel=1e-3)


@given(
    class_sizes=st.lists(st.integers(0, 12), min_size=1, max_size=8).filter(any),
    batch_size=BATCH_SIZE,
    seed=st.integers(0, 99),
)
def test_classes_come_equally_often(class_sizes: list[int], batch_size: int, seed: int) -> None:
    """And the rows of a class, too: no row for the n-th time before every other row of its class."""
    labels = np.repeat(np.arange(len(class_sizes), dtype=np.int32), class_sizes)
    np.random.default_rng(seed).shuffle(labels)
    mixture = Schedule({"a": len(labels), "b": 7}, batch_size=batch_size, seed=seed, labels={"a": labels})
    stream = [sample for step in range(8) for sample in mixture.samples(step) if sample.dataset == "a"]
    counts, rows = Counter[int](), Counter[int]()
    for sample in stream:
        assert sample.epoch == rows[sample.index]
        label = int(labels[sample.index])
        counts[label] += 1
        rows[sample.index] += 1
        assert max(counts.values()) - min(counts[present] for present in set(labels.tolist())) <= 1
        own = [rows[row] for row in np.flatnonzero(labels == label).tolist()]
        assert max(own) - min(own) <= 1
    assert len(set(stream)) == len({clip_seed(seed, sample) for sample in stream}) == len(stream)


def test_partners_of_even_classes_are_each_others() -> None:
    labels = np.array([0] * 50 + [1] * 3 + [2] * 7, dtype=np.int32)
    mixture = Schedule({"a": 60}, batch_size=60, labels={"a": labels}, repeats=2)
    stream = [sample for step in range(6) for sample in mixture.samples(step)]  # three times as many as rows
    assert {sample.mixed_with() for sample in stream} == set(stream)
    assert any(sample.lag for sample in stream)


def test_another_seed_gives_another_order() -> None:
    first, second = (schedule(0, seed=seed, sizes={"a": 100}, batch_size=100) for seed in (0, 1))
    assert first != second
    assert {sample.index for sample in first} == {sample.index for sample in second}


def test_counts_are_exact_from_one_clip_a_batch_on_and_expected_below() -> None:
    mixture = Schedule({"often": 90, "even": 10, "rarely": 5}, batch_size=10)
    for step in range(10):
        samples = mixture.samples(step)
        counts = mixture.counts(samples)
        assert counts["often"] == sum(sample.dataset == "often" for sample in samples)
        assert counts["even"] == pytest.approx(100 / 105)
        assert counts["rarely"] == pytest.approx(50 / 105)


@given(sizes=SIZES, batch_size=BATCH_SIZE, step=st.integers(0, 50))
def test_no_count_is_zero(sizes: dict[str, int], batch_size: int, step: int) -> None:
    mixture = Schedule(sizes, batch_size=batch_size)
    assert all(count > 0 for count in mixture.counts(mixture.samples(step)).values())


@given(
    batch_size=BATCH_SIZE,
    num_slices=st.integers(1, 16),
    frames=st.tuples(*[st.sampled_from([1, 4, 8, 16])] * 3),
    step=st.integers(0, 50),
)
def test_slices_are_gapless_and_even(batch_size: int, num_slices: int, frames: tuple[int, ...], step: int) -> None:
    num_frames = dict(zip("abc", frames, strict=True))
    samples = schedule(step, seed=0, sizes={"a": 40, "b": 30, "c": 20}, batch_size=batch_size)
    slices = slice_samples(samples, num_frames, num_slices)
    assert sorted(sample for part in slices for sample in part) == sorted(samples)
    loads = [sum(num_frames[sample.dataset] for sample in part) for part in slices]
    assert len(slices) == num_slices
    assert max(loads) - min(loads) <= max(num_frames.values())


@given(sizes=SIZES, batch_size=BATCH_SIZE)
def test_partners_are_each_others_and_of_the_same_dataset(sizes: dict[str, int], batch_size: int) -> None:
    total = sum(sizes.values())
    mixture = Schedule(sizes, batch_size=batch_size)
    stream = [sample for step in range(-(-total // batch_size)) for sample in mixture.samples(step)][:total]
    assert {sample.mixed_with() for sample in stream} == set(stream)
    assert all(sample.mixed_with().mixed_with() == sample for sample in stream)
    alone = [sample.dataset for sample in stream if sample.partner == sample.index]
    assert sorted(alone) == sorted(name for name, size in sizes.items() if size % 2)


def test_partners_do_not_depend_on_the_batch_and_change_with_every_epoch() -> None:
    small, large = (Schedule({"a": 30, "b": 50}, batch_size=batch_size) for batch_size in (5, 16))
    streams = [
        [sample for step in range(160 // mixture.batch_size) for sample in mixture.samples(step)]
        for mixture in (small, large)
    ]
    assert streams[0] == streams[1]
    epochs = [{frozenset((s.index, s.partner)) for s in streams[0] if s[:2] == ("b", epoch)} for epoch in (0, 1)]
    assert len(epochs[0] & epochs[1]) < 5


@pytest.mark.parametrize("num_slices", [1, 2, 4, 8])
def test_slices_part_few_partners(num_slices: int) -> None:
    """At most one pair for each cut between slices, and for each dataset two at the ends of a step."""
    sizes = {name: 300 + 10 * number for number, name in enumerate("abcdef")}
    mixture = Schedule(sizes, batch_size=96)
    for step in range(20):
        parts = slice_samples(mixture.samples(step), dict.fromkeys(sizes, 8), num_slices)
        parted = sum(sample.mixed_with() not in part for part in parts for sample in part)
        assert parted <= 2 * (num_slices - 1) + 2 * len(sizes)


@given(
    sizes=SIZES, slots=st.integers(1, 20), repeats=st.integers(1, 4), step=st.integers(0, 30), seed=st.integers(0, 99)
)
def test_repeats_come_together_and_keep_the_shares(
    sizes: dict[str, int], slots: int, repeats: int, step: int, seed: int
) -> None:
    mixture = Schedule(sizes, batch_size=slots * repeats, seed=seed, repeats=repeats)
    samples = mixture.samples(step)
    once = schedule(step, seed=seed, sizes=sizes, batch_size=slots)
    assert [(sample.dataset, sample.index) for sample in samples[::repeats]] == [(s.dataset, s.index) for s in once]
    for first in range(0, len(samples), repeats):
        group = samples[first : first + repeats]
        assert len({(sample.dataset, sample.index, sample.partner) for sample in group}) == 1
        assert [sample.epoch - group[0].epoch for sample in group] == list(range(repeats))
        assert group[0].epoch % repeats == 0
    assert len({clip_seed(seed, sample) for sample in samples}) == len(set(samples)) == slots * repeats
    counts = Counter(sample.dataset for sample in samples)
    for name, count in mixture.counts(samples).items():
        rare = mixture.expected[name] < repeats
        assert count == (mixture.expected[name] if rare or not counts[name] else counts[name])


@given(sizes=SIZES, old=BATCH_SIZE, new=BATCH_SIZE, num_steps=st.integers(0, 20))
def test_another_batch_size_continues_at_the_same_clip(
    sizes: dict[str, int], old: int, new: int, num_steps: int
) -> None:
    before, whole = Schedule(sizes, batch_size=old), Schedule(sizes, batch_size=1)
    after = Schedule(sizes, batch_size=new, offset=num_steps * (old - new))
    stream = [sample for step in range(num_steps) for sample in before.samples(step)] + after.samples(num_steps)
    assert stream == [sample for step in range(num_steps * old + new) for sample in whole.samples(step)]


def test_clip_seeds_differ_by_sample_and_epoch_and_not_by_anything_else() -> None:
    samples = [Sample(name, epoch, index, 0) for name in "ab" for epoch in range(3) for index in range(50)]
    seeds = {clip_seed(0, sample) for sample in samples}
    assert len(seeds) == len(samples)
    assert clip_seed(3, Sample("a", 1, 2, partner=3)) == clip_seed(3, Sample("a", 1, 2, partner=4))
    assert clip_seed(3, samples[0]) != clip_seed(4, samples[0])


@pytest.mark.parametrize(
    ("sizes", "rates", "message"),
    [
        ({"a": 0, "b": 3}, None, "dataset 'a' has 0 samples"),
        ({"a": 3, "b": 3}, {"a": 1.0, "b": -2.0}, "rate of dataset 'b' is -2.0"),
        ({"a": 3, "b": 3}, {"a": 1.0, "b": 1e-9}, "rate of dataset 'b' is 1e-09"),
    ],
)
def test_impossible_mixtures_are_refused(sizes: dict[str, int], rates: dict[str, float] | None, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Schedule(sizes, batch_size=4, rates=rates)


@pytest.mark.parametrize("temperature", [0.01, 0.0, -1.0, float("nan")])
def test_impossible_temperatures_are_refused(temperature: float) -> None:
    with pytest.raises(RecipeError, match=f"temperature is {temperature}; it is at least 0.1"):
        tempered_rates({"a": 240_000, "b": 1_200_000}, temperature)
    assert tempered_rates({"a": 1}, 0.1) == {"a": 1}


def test_repeats_that_do_not_divide_the_batch_are_refused() -> None:
    with pytest.raises(RecipeError, match="batch_size 8 with 3 repeats of every clip; make it a multiple of 3"):
        Schedule({"a": 5}, batch_size=8, repeats=3)


@given(size=st.integers(1, 400), key=st.integers(0, 2**63 - 1))
def test_every_index_appears_once(size: int, key: int) -> None:
    assert sorted(permute(index, size, key) for index in range(size)) == list(range(size))


@given(size=st.integers(1, 2**40), data=st.data())
def test_a_huge_dataset_needs_no_list(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    assert 0 <= permute(index, size, key=7) < size


@pytest.mark.parametrize("size", [2, 3, 7, 10])
def test_every_index_goes_everywhere_equally_often(size: int) -> None:
    num_keys = 1500
    landed = np.array([[permute(index, size, key) for index in range(size)] for key in range(num_keys)])
    for column in landed.T:
        expected = num_keys / size
        chi_squared = ((np.bincount(column, minlength=size) - expected) ** 2 / expected).sum()
        assert chi_squared < 30  # p < 0.001 for 10 cells


def test_neighbours_do_not_stay_neighbours() -> None:
    order = np.array([permute(index, 2000, key=1) for index in range(2000)])
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.08  # 3.5 standard deviations
    assert np.abs(np.diff(order)).min() >= 1


def test_an_index_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="index is 5; a permutation of 5 takes 0 to 4"):
        permute(5, 5, key=0)


def test_a_hash_depends_on_every_part_and_fits_an_int64() -> None:
    hashes = {hash_63bit("clip", seed, name, epoch) for seed in range(5) for name in "ab" for epoch in range(5)}
    assert len(hashes) == 50
    assert all(0 <= value < 2**63 for value in hashes)
    assert hash_63bit("a", 11) != hash_63bit("a1", 1)


@given(data=st.data(), seed=st.integers(0, 2**32))
def test_one_dataset_a_step_has_exact_counts_in_every_epoch(data: st.DataObject, seed: int) -> None:
    """Every epoch has its share of steps to within one, an epoch of a dataset reads each sample once, and any step is
    found without the steps before it."""
    sizes = data.draw(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 60), min_size=1))
    own = {name: data.draw(st.integers(1, 12)) for name in sizes}
    rates = data.draw(st.one_of(st.none(), st.just(tempered_rates(sizes, 2))))
    mixture = Schedule(sizes, batch_size=4, batch_sizes=own, seed=seed, rates=rates)
    turns = {name: (sizes if rates is None else rates)[name] / size for name, size in own.items()}
    epoch_steps = max(1, round(sum(sizes.values()) / mixture.clips_per_step))
    steps = [mixture.samples(step) for step in range(3 * epoch_steps)]
    for number in range(3):
        epoch = steps[number * epoch_steps : (number + 1) * epoch_steps]
        found = Counter(samples[0].dataset for samples in epoch)
        for name, share in turns.items():
            assert abs(found[name] - epoch_steps * share / sum(turns.values())) < 2
    totals: Counter[str] = Counter()
    read: dict[str, list[Sample]] = {name: [] for name in sizes}
    for step, samples in enumerate(steps):
        [name] = {sample.dataset for sample in samples}
        assert len(samples) == own[name] and mixture.dataset_of(step) == name
        assert mixture.counts(samples) == {other: own[name] * (other == name) for other in sizes}
        totals[name] += 1
        read[name] += samples
    for name, share in turns.items():
        assert abs(totals[name] - len(steps) * share / sum(turns.values())) <= 1
        positions = sorted((sample.epoch, sample.index) for sample in read[name])
        assert len(set(positions)) == len(positions)
        whole = len(positions) // sizes[name]
        assert positions[: whole * sizes[name]] == [
            (epoch, row) for epoch in range(whole) for row in range(sizes[name])
        ]
    last = len(steps) - 1
    assert Schedule(sizes, batch_size=4, batch_sizes=own, seed=seed, rates=rates).samples(last) == steps[last]


def test_turns_come_in_another_random_order_every_epoch() -> None:
    mixture = Schedule({"a": 60, "b": 40}, batch_size=4, batch_sizes={"a": 6, "b": 4})
    orders = ["".join(str(mixture.dataset_of(20 * epoch + step)) for step in range(20)) for epoch in range(4)]
    assert len(set(orders)) == 4 and all(order.count("a") == 10 for order in orders)
    assert mixture.shares == {"a": 0.6, "b": 0.4} and mixture.clips_per_step == 5


def test_turns_go_on_at_the_same_clips_with_another_batch_size() -> None:
    """20 steps of 4 clips are one epoch; after them, steps of 8 begin the next one."""
    sizes = {"a": 48, "b": 32}
    before = Schedule(sizes, batch_size=4, batch_sizes={"a": 4, "b": 4})
    after = Schedule(sizes, batch_size=8, batch_sizes={"a": 8, "b": 8}, offset=20 * (4 - 8))
    steps = [*map(before.samples, range(20)), *map(after.samples, range(20, 30))]
    read = Counter((sample.dataset, sample.epoch, sample.index) for samples in steps for sample in samples)
    assert read == dict.fromkeys(
        ((name, epoch, row) for name, n in sizes.items() for epoch in (0, 1) for row in range(n)), 1
    )
