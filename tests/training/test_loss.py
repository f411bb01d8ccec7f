from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cover.config.training_sections import OptimizerSection
from cover.core.batch import UNREADABLE, ClipBatch, MixedBatch
from cover.datasets.manifest import Manifest
from cover.media.mixing import Mixing
from cover.media.randaugment import RandAugment
from cover.mixture.mixture import Dataset, Mixture
from cover.mixture.schedule import Reduction, Schedule
from cover.models.create import create_model
from cover.training.loss import class_weights, clip_losses, head_losses, loss
from cover.training.optimizer import create_optimizer
from cover.training.packed_batch import HeadLoss, Targets

HEADS = {"k400": 5, "imagenet": 4}


def clip_batch(dataset: str, num_frames: int, labels: list[int], first_seed: int = 0) -> ClipBatch:
    torch.manual_seed(first_seed)
    frames = torch.randint(256, (num_frames, len(labels), 3, 32, 32), dtype=torch.uint8)
    seeds = torch.arange(first_seed, first_seed + len(labels))
    return ClipBatch(dataset, frames, torch.tensor(labels), tuple(map(str, labels)), seeds)


def mixed(k400: ClipBatch | None, imagenet: ClipBatch | None, counts: dict[str, float]) -> MixedBatch:
    return MixedBatch({batch.dataset: batch for batch in (k400, imagenet) if batch}, counts, step=0)


def test_loss_is_the_weighted_sum_of_dataset_means() -> None:
    batch = mixed(clip_batch("k400", 2, [0, 1, 2]), clip_batch("imagenet", 1, [3]), {"k400": 3, "imagenet": 1})
    logits = {"k400": torch.randn(3, 5), "imagenet": torch.randn(1, 4)}
    means = {name: F.cross_entropy(values, batch[name].labels) for name, values in logits.items()}
    weights = {"k400": 1.0, "imagenet": 0.5}
    torch.testing.assert_close(loss(logits, batch, weights), means["k400"] + 0.5 * means["imagenet"])
    pooled = (3 * means["k400"] + 0.5 * means["imagenet"]) / 4
    torch.testing.assert_close(loss(logits, batch, weights, reduction="pooled"), pooled)


def test_unreadable_clips_add_nothing_and_keep_the_denominator() -> None:
    readable = clip_batch("k400", 2, [0, 1])
    with_hole = clip_batch("k400", 2, [0, UNREADABLE])
    logits = {"k400": torch.randn(2, 5)}
    one = F.cross_entropy(logits["k400"][:1], torch.tensor([0]), reduction="sum")
    torch.testing.assert_close(loss(logits, mixed(with_hole, None, {"k400": 2})), one / 2)
    assert loss(logits, mixed(readable, None, {"k400": 2})) > loss(logits, mixed(with_hole, None, {"k400": 2}))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_mixed_and_smoothed_labels_are_probabilities_to_cross_entropy(label_smoothing: float) -> None:
    labels, partners, weights = torch.tensor([0, 1, 4]), torch.tensor([3, 1, 2]), torch.tensor([0.75, 0.6, 1.0])
    clips = replace(clip_batch("k400", 2, labels.tolist()), partner_labels=partners, label_weights=weights)
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    own, other = F.one_hot(labels, 5), F.one_hot(partners, 5)
    probabilities = weights[:, None] * own + (1 - weights[:, None]) * other
    targets = (1 - label_smoothing) * probabilities + label_smoothing / 5
    assert targets.sum(1).tolist() == pytest.approx([1, 1, 1])
    total = loss({"k400": logits}, mixed(clips, None, {"k400": 3}), label_smoothing=label_smoothing)
    torch.testing.assert_close(total, F.cross_entropy(logits, targets), rtol=1e-6, atol=0)


def test_a_clip_counts_by_the_weight_of_its_class() -> None:
    """torch divides by the sum of the weights, this loss by the number of clips; of mixed labels, each has its own."""
    labels, weights = torch.tensor([0, 1, 4]), torch.tensor([0.5, 3.0, 1.0, 1.0, 2.0])
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    batch = mixed(clip_batch("k400", 2, labels.tolist()), None, {"k400": 3})
    total = loss({"k400": logits}, batch, class_weights={"k400": weights})
    torch.testing.assert_close(total, F.cross_entropy(logits, labels, weights, reduction="sum") / 3)
    both = replace(batch["k400"], partner_labels=labels.roll(1), label_weights=torch.full((3,), 0.75))
    total = loss({"k400": logits}, mixed(both, None, {"k400": 3}), class_weights={"k400": weights})
    shares = 0.75 * F.one_hot(labels, 5) + 0.25 * F.one_hot(labels.roll(1), 5)
    torch.testing.assert_close(total, -(shares * weights * logits.log_softmax(-1)).sum() / 3)


def test_four_copies_of_a_dataset_pull_the_backbone_four_times_as_hard_in_a_sum_and_once_in_an_average() -> None:
    """And a head as hard as alone in the sum, a quarter of that in the average and pooled (docs/training.md)."""
    torch.manual_seed(0)
    features, labels = torch.randn(8, 6, requires_grad=True), torch.arange(8) % 5
    start = torch.randn(5, 6)

    def pulls(num_copies: int, weight: float, reduction: Reduction) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradients of a backbone of one shared vector, and of the first head, with the same clips in each copy."""
        names = [f"copy{number}" for number in range(num_copies)]
        shared, heads = torch.zeros(6, requires_grad=True), {name: start.clone().requires_grad_() for name in names}
        batch = MixedBatch(
            {name: replace(clip_batch("k400", 1, labels.tolist()), dataset=name) for name in names},
            dict.fromkeys(names, len(labels)),
            step=0,
        )
        logits = {name: (features + shared) @ head.T for name, head in heads.items()}
        total = loss(logits, batch, dict.fromkeys(names, weight), reduction)
        backbone, head, *_ = torch.autograd.grad(total, [shared, *heads.values()])
        return backbone, head

    backbone, head = pulls(1, 1.0, "dataset_mean")
    for ways, on_backbone, on_head in (
        ((4, 1.0, "dataset_mean"), 4, 1),
        ((4, 0.25, "dataset_mean"), 1, 0.25),
        ((4, 1.0, "pooled"), 1, 0.25),
    ):
        pull = pulls(*ways)  # type: ignore[arg-type]
        torch.testing.assert_close(pull[0], on_backbone * backbone)
        torch.testing.assert_close(pull[1], on_head * head)


@pytest.mark.parametrize(("power", "ratio"), [(1.0, 9.0), (0.5, 3.0), (0.0, 1.0)])
def test_class_weights_make_up_for_rare_classes(power: float, ratio: float) -> None:
    labels = np.array([0] * 90 + [2] * 10, dtype=np.int32)
    weights = class_weights(labels, 3, power)
    assert float(weights[2] / weights[0]) == pytest.approx(ratio) and weights[1] == 0
    assert float(weights[labels].mean()) == pytest.approx(1)


def test_an_unreadable_clip_adds_nothing_to_a_mixed_batch_either() -> None:
    clips = replace(
        clip_batch("k400", 2, [0, UNREADABLE]),
        partner_labels=torch.tensor([1, UNREADABLE]),
        label_weights=torch.tensor([0.7, 1.0]),
    )
    logits = torch.randn(2, 5, requires_grad=True)
    loss({"k400": logits}, mixed(clips, None, {"k400": 2}), label_smoothing=0.1).backward()
    assert logits.grad is not None and logits.grad[0].any() and not logits.grad[1].any()


@pytest.mark.parametrize("repeats", [1, 2])
def test_an_augmented_step_has_the_same_loss_however_it_is_split(
    video_manifest: Manifest, image_manifest: Manifest, repeats: int
) -> None:
    """Real files; mixup, CutMix, RandAugment, label smoothing and drop path on; at last a slice a clip."""
    augmentation: dict[str, Any] = {"mixing": Mixing(0.8, 1.0), "randaugment": RandAugment(2, 9)}
    datasets = [
        Dataset(video_manifest, name="videos", num_frames=4, **augmentation),
        Dataset(image_manifest, name="images", **augmentation),
    ]
    torch.manual_seed(0)
    model = create_model(
        "timesformer_tiny", num_frames=4, image_size=32, depth=3, heads={"videos": 2, "images": 2},
        drop_path_rate=0.3, temporal_init="random",
    ).train()  # fmt: skip

    def losses(**split: Any) -> list[float]:
        mixture = Mixture(datasets, batch_size=8, image_size=32, num_steps=3, repeats=repeats, **split)
        totals = [0.0] * 3
        with torch.no_grad():
            for batch in mixture:
                totals[batch.step] += float(loss(model(batch), batch, {"images": 0.5}, label_smoothing=0.1).double())
        return totals

    whole = losses()
    assert losses(num_micro_batches=3) == pytest.approx(whole, rel=1e-6)
    assert losses(num_micro_batches=8) == pytest.approx(whole, rel=1e-6)
    ranks = zip(*(losses(rank=rank, world_size=2, num_micro_batches=2) for rank in range(2)), strict=True)
    assert [sum(parts) for parts in ranks] == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("reduction", ["dataset_mean", "pooled"])
def test_gradients_do_not_depend_on_the_split_into_micro_batches(reduction: Reduction) -> None:
    """drop_path on; the second part holds no image, the third nothing but images."""
    counts = {"k400": 3.0, "imagenet": 3.0}
    videos, images = clip_batch("k400", 2, [0, 1, 2], 10), clip_batch("imagenet", 1, [3, 0, 1], 20)

    def part(batch: ClipBatch, rows: slice) -> ClipBatch:
        return ClipBatch(
            batch.dataset, batch.frames[:, rows], batch.labels[rows], batch.sample_ids[rows], batch.seeds[rows]
        )

    splits = [
        mixed(part(videos, slice(0, 1)), part(images, slice(0, 1)), counts),
        mixed(part(videos, slice(1, 3)), None, counts),
        mixed(None, part(images, slice(1, 3)), counts),
    ]

    def gradients(parts: list[MixedBatch]) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = create_model(
            "timesformer_tiny", num_frames=2, image_size=32, depth=3, heads=HEADS, drop_path_rate=0.1,
            temporal_init="random",
        ).train()  # fmt: skip
        for batch in parts:
            loss(model(batch), batch, {"imagenet": 0.5}, reduction).backward()
        return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}

    whole, split = gradients([mixed(videos, images, counts)]), gradients(splits)
    assert whole.keys() == split.keys()
    for name, gradient in whole.items():
        scale = gradient.abs().max().clamp_min(1e-8)
        assert (split[name] - gradient).abs().max() / scale <= 1e-5, name


@pytest.mark.parametrize(
    ("reduction", "repeats", "weight"),
    [("dataset_mean", 1, 1.0), ("dataset_mean", 2, 0.5), ("expected_mean", 1, 32.0), ("pooled", 1, 1 / 32)],
)
def test_a_clip_of_a_rare_dataset_weighs_no_more_than_a_dataset(
    reduction: Reduction, repeats: int, weight: float
) -> None:
    clips = {"k400": clip_batch("k400", 2, [1])}
    batch = MixedBatch(clips, {"k400": 1 / 32, "imagenet": 32 - 1 / 32}, step=0, repeats=repeats)
    logits = {"k400": torch.tensor([[2.0, 0.0, 0.0, 0.0, 0.0]])}
    one = F.cross_entropy(logits["k400"], torch.tensor([1]))
    torch.testing.assert_close(loss(logits, batch, reduction=reduction), weight * one)


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 5e-3), ("adamw", 1e-3)])
@pytest.mark.parametrize(
    ("num_videos", "num_images", "batch_size"),
    [
        (3, 3_000, 32),
        pytest.param(10, 3_000, 32, marks=pytest.mark.slow),
        pytest.param(200, 240_000, 128, marks=pytest.mark.slow),
    ],
)
def test_a_few_videos_are_learned_beside_very_many_images(
    num_videos: int, num_images: int, batch_size: int, optimizer: Literal["sgd", "adamw"], rate: float
) -> None:
    """With "expected_mean" the first of these diverges under SGD within 200 steps."""
    torch.manual_seed(0)
    schedule = Schedule({"videos": num_videos, "images": num_images}, batch_size=batch_size)
    model = create_model(
        depth=1, width=32, num_heads=1, patch_size=8, num_frames=2, image_size=16, heads={"videos": 2, "images": 4}
    )
    stepper = create_optimizer(model, OptimizerSection(name=optimizer, learning_rate=rate))
    pictures = {
        "videos": torch.randint(128, (2, 2, 3, 16, 16)),  # class, T, C, Y, X
        "images": torch.randint(128, (4, 1, 3, 16, 16)),
    }
    for step in range(350):
        samples = schedule.samples(step)
        clips = {}
        for name in {sample.dataset for sample in samples}:
            indices = torch.tensor([sample.index for sample in samples if sample.dataset == name])
            labels = indices % len(pictures[name])
            frames = pictures[name][labels] + torch.randint(128, (len(labels), 1, 3, 16, 16))
            frames = frames.transpose(0, 1).to(torch.uint8).contiguous()
            clips[name] = ClipBatch(name, frames, labels, ("",) * len(labels), indices)
        batch = MixedBatch(clips, schedule.counts(samples), step)
        loss(model(batch), batch).backward()
        stepper.step()
        stepper.zero_grad()
    with torch.inference_mode():
        logits = model({"videos": (pictures["videos"] + 64).transpose(0, 1).to(torch.uint8)})["videos"]
    assert F.cross_entropy(logits, torch.arange(2)) < 0.15


def test_targets_of_one_class_give_the_loss_of_its_label_mixed_or_not() -> None:
    """Also as a distribution; and binary cross-entropy takes mixed labels as mixed targets."""
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    labels, partners = torch.tensor([2, 0, UNREADABLE, 4]), torch.tensor([1, 0, UNREADABLE, 3])
    weights = torch.tensor([0.75, 1.0, 1.0, 0.5])
    expected = clip_losses(logits, Targets(labels, partners, weights), 0.1)
    classes = torch.zeros(4, 7)  # of a head with more classes
    for row, (own, other, weight) in enumerate(zip(labels, partners, weights, strict=True)):
        if own != UNREADABLE:
            classes[row, own] += weight
            classes[row, other] += 1 - weight
    targets = Targets(labels, classes=classes)
    torch.testing.assert_close(head_losses(logits, targets, HeadLoss("cross_entropy", 5), 0.1), expected)
    binary = F.binary_cross_entropy_with_logits(logits, classes[:, :5], reduction="none").mean(1) * (labels >= 0)
    torch.testing.assert_close(head_losses(logits, targets, HeadLoss("bce", 5)), binary)
    torch.testing.assert_close(head_losses(logits, Targets(labels, partners, weights), HeadLoss("bce")), binary)


def test_clips_of_several_classes_have_a_binary_loss_in_a_loop_of_your_own() -> None:
    targets = torch.tensor([[1.0, 0, 0.5, 0, 0], [0, 1, 0, 0, 1], [1, 0, 0, 0, 0]])
    clips = replace(clip_batch("k400", 2, [0, 1, UNREADABLE]), targets=targets)
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    expected = F.binary_cross_entropy_with_logits(logits[:2], targets[:2], reduction="none").mean(1).sum() / 3
    torch.testing.assert_close(loss({"k400": logits}, mixed(clips, None, {"k400": 3})), expected)
