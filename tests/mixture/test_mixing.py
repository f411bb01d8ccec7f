"""Mixing clips with partners, on real files, and what must not influence it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from cover.core.batch import UNREADABLE, MixedBatch
from cover.datasets.manifest import Manifest
from cover.media.mixing import Mixing
from cover.media.randaugment import RandAugment
from cover.mixture.mixture import Dataset, Mixture
from cover.mixture.schedule import Schedule

Clips = dict[tuple[int, str, int], tuple[torch.Tensor, ...]]


@pytest.fixture
def datasets(video_manifest: Manifest, image_manifest: Manifest) -> list[Dataset]:
    """Six videos and five images, all augmentations on."""
    everything: dict[str, Any] = {
        "mixing": Mixing(mixup=0.8, cutmix=1.0),
        "randaugment": RandAugment(num_ops=2, magnitude=9),
    }
    return [
        Dataset(video_manifest, name="videos", num_frames=4, **everything),
        Dataset(image_manifest, name="images", **everything),
    ]


def mixture_of(datasets: Sequence[Dataset], **options: Any) -> Mixture:
    return Mixture(datasets, **({"batch_size": 6, "image_size": 32, "num_steps": 4} | options))


def clips_of(batches: Sequence[MixedBatch]) -> Clips:
    """{(step, sample id, seed): (frames, label, partner's label, weight)}, however the steps were sliced."""
    clips: Clips = {}
    for batch in batches:
        for part in batch.values():
            assert part.partner_labels is not None and part.label_weights is not None
            values = zip(part.frames.unbind(1), part.labels, part.partner_labels, part.label_weights, strict=True)
            for sample_id, seed, value in zip(part.sample_ids, part.seeds.tolist(), values, strict=True):
                assert (batch.step, sample_id, seed) not in clips
                clips[batch.step, sample_id, seed] = value
    return clips


def assert_same(left: Clips, right: Clips) -> None:
    assert left.keys() == right.keys()
    for key, values in left.items():
        assert all(a.equal(b) for a, b in zip(values, right[key], strict=True)), key


@pytest.mark.parametrize("repeats", [1, 2])
def test_mixed_clips_are_the_same_on_any_ranks_micro_batches_and_workers(datasets: list[Dataset], repeats: int) -> None:
    whole = clips_of(list(mixture_of(datasets, repeats=repeats)))
    assert len(whole) == 4 * 6
    for split in ({"num_micro_batches": 6}, {"num_workers": 2}):
        assert_same(clips_of(list(mixture_of(datasets, repeats=repeats, **split))), whole)
    ranks = [
        list(mixture_of(datasets, repeats=repeats, rank=rank, world_size=2, num_micro_batches=2)) for rank in range(2)
    ]
    assert_same(clips_of([batch for rank in ranks for batch in rank]), whole)


def test_mixed_clips_do_not_depend_on_the_batch_size(datasets: list[Dataset]) -> None:
    small = clips_of(list(mixture_of(datasets, batch_size=3, num_steps=8)))
    large = clips_of(list(mixture_of(datasets, batch_size=12, num_steps=2)))
    assert_same(
        {(0, *key[1:]): clip for key, clip in small.items()}, {(0, *key[1:]): clip for key, clip in large.items()}
    )


def test_repeats_differ(datasets: list[Dataset]) -> None:
    batch = next(iter(mixture_of([replace(datasets[1], mixing=Mixing())], batch_size=8, repeats=4)))["images"]
    assert len(set(batch.sample_ids)) == 2 and len(set(batch.seeds.tolist())) == 8
    assert len({frames.numpy().tobytes() for frames in batch.frames.unbind(1)}) == 8


def test_a_clip_is_mixed_with_its_partners_own_crop(datasets: list[Dataset], video_manifest: Manifest) -> None:
    """Blending the unmixed clips of a step by the weights of the labels gives the mixed ones."""
    plain, mixed = (
        next(iter(mixture_of([replace(datasets[0], mixing=mixing)])))["videos"]
        for mixing in (Mixing(), Mixing(mixup=1.0))
    )
    assert mixed.partner_labels is not None and mixed.label_weights is not None
    assert plain.sample_ids == mixed.sample_ids and plain.labels.equal(mixed.labels) and plain.seeds.equal(mixed.seeds)
    places = {sample_id: place for place, sample_id in enumerate(plain.sample_ids)}
    for sample in Schedule({"videos": 6}, batch_size=6).samples(0):
        own, other = (places[f"videos/{video_manifest[row].sample_id}"] for row in (sample.index, sample.partner))
        weight = mixed.label_weights[own]
        blend = weight * plain.frames[:, own] + (1 - weight) * plain.frames[:, other]
        assert (mixed.frames[:, own] - blend).abs().max() <= 0.5 + 1e-3
        assert mixed.partner_labels[own] == plain.labels[other]


@pytest.mark.parametrize("num_micro_batches", [1, 12])
def test_the_partner_of_an_unreadable_clip_stays_unmixed(datasets: list[Dataset], num_micro_batches: int) -> None:
    manifest = datasets[0].manifest
    assert isinstance(manifest, Manifest)
    plain = [replace(datasets[0], mixing=Mixing())]
    untouched = next(iter(mixture_of(plain, batch_size=12, num_steps=1)))["videos"]
    broken = manifest[2]
    broken.file.write_bytes(b"not a video")
    mixture = mixture_of(datasets[:1], batch_size=12, num_steps=1, num_micro_batches=num_micro_batches)
    clips = clips_of(list(mixture))
    frames_of = dict(zip(untouched.seeds.tolist(), untouched.frames.unbind(1), strict=True))
    own = {key for key in clips if key[1] == f"videos/{broken.sample_id}"}
    unmixed = {key for key, (_, _, _, weight) in clips.items() if weight == 1} - own
    assert len(own) == len(unmixed) == 2
    for key in own:
        frames, label, partner_label, _ = clips[key]
        assert not frames.any() and label == partner_label == UNREADABLE
    for key in unmixed:
        frames, label, partner_label, _ = clips[key]
        assert frames.equal(frames_of[key[2]]) and label == partner_label != UNREADABLE
    assert list(mixture.unreadable.reasons["videos"]) == [broken.sample_id]


def test_without_mixing_batches_carry_one_label(datasets: list[Dataset]) -> None:
    batch = next(iter(mixture_of([replace(datasets[0], mixing=Mixing()), datasets[1]])))
    assert batch["videos"].partner_labels is None and batch["videos"].label_weights is None
    assert batch["images"].label_weights is not None
