from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cover.clip import UNREADABLE, ClipBatch, MixedBatch
from cover.models.create import create_model
from cover.training.loss import loss

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


@pytest.mark.parametrize("reduction", ["dataset_mean", "pooled"])
def test_gradients_do_not_depend_on_the_split_into_micro_batches(reduction: str) -> None:
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
