"""A packed batch gives the loss and the counts of its clips, whichever datasets they belong to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe
from cover.core.batch import UNREADABLE, ClipBatch, MixedBatch
from cover.models.classifier import VideoClassifier
from cover.models.create import create_model
from cover.training.loss import loss
from cover.training.objective import StepOutput, Supervised

HEADS = {"videos": 5, "rare": 3, "images": 4}
WEIGHTS = {"videos": 1.0, "rare": 2.0, "images": 0.5}
CPU = torch.device("cpu")


def model() -> VideoClassifier:
    torch.manual_seed(0)
    return create_model(
        "timesformer_tiny", depth=2, width=24, num_heads=2, num_frames=2, image_size=32, heads=HEADS,
        drop_path_rate=0.3, temporal_init="random",
    )  # fmt: skip


CLASS_WEIGHTS = {"videos": torch.tensor([0.5, 1.0, 2.0, 1.0, 3.0]), "rare": torch.tensor([1.0, 4.0, 1.0])}


def recipe() -> Recipe:
    datasets = {name: {"train": "none.arrow", "loss_weight": weight} for name, weight in WEIGHTS.items()}
    values: dict[str, Any] = {"policy": "cotrain", "datasets": datasets, "model": {}}
    return parse_recipe(values | {"training": {"label_smoothing": 0.1}}, "test")


def clips(dataset: str, num_frames: int, labels: list[int]) -> ClipBatch:
    generator = torch.Generator().manual_seed(len(labels))
    frames = torch.randint(256, (num_frames, len(labels), 3, 32, 32), dtype=torch.uint8, generator=generator)
    ids = tuple(f"{dataset}/{number}" for number in range(len(labels)))
    return ClipBatch(dataset, frames, torch.tensor(labels), ids, torch.arange(len(labels)))


def mixed_batch(*parts: ClipBatch) -> MixedBatch:
    return MixedBatch({part.dataset: part for part in parts}, {"videos": 3, "rare": 0.5, "images": 2}, 0)


def taken(
    learning: VideoClassifier, batch: MixedBatch, class_weights: dict[str, torch.Tensor] | None = None
) -> StepOutput:
    objective = Supervised(recipe(), class_weights=class_weights or {})
    return objective.step(objective.module(learning), objective.pack(batch, CPU))


@pytest.mark.parametrize("class_weights", [None, CLASS_WEIGHTS], ids=["", "class weights"])
@pytest.mark.parametrize("mixed", [False, True], ids=["plain", "mixed"])
def test_the_loss_and_its_gradients_are_those_of_the_public_function(
    mixed: bool, class_weights: dict[str, torch.Tensor] | None
) -> None:
    """With an absent dataset, an unreadable clip, and one dataset of two whose clips are mixed."""
    videos, images = clips("videos", 2, [4, UNREADABLE, 1]), clips("images", 1, [3, 0])
    if mixed:
        partners, weights = torch.tensor([2, UNREADABLE, 1]), torch.tensor([0.75, 1.0, 0.5])
        videos = replace(videos, partner_labels=partners, label_weights=weights)
    batch = mixed_batch(images, videos)
    ours, other = model(), model().train()
    expected = loss(other(batch), batch, WEIGHTS, label_smoothing=0.1, class_weights=class_weights)
    found = taken(ours, batch, class_weights).total
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    for (name, parameter), twin in zip(ours.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, twin.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_clips_are_counted_for_their_own_dataset() -> None:
    learning = model()
    batch = mixed_batch(clips("images", 1, [3, 0, UNREADABLE]), clips("videos", 2, [4, 1]))
    output = taken(learning, batch)
    logits = {name: values.argmax(-1) for name, values in learning.train()(batch).items()}
    correct = {name: int((logits[name] == batch[name].labels).sum()) for name in batch}
    assert output.sums[:, 1:].tolist() == [[correct["videos"], 2, 0], [0, 0, 0], [correct["images"], 2, 1]]
    assert output.sums[1, 0] == 0 and output.finite.all()


def test_a_clip_is_not_finite_if_its_own_head_is_not() -> None:
    learning = model()
    torch.nn.init.constant_(learning.get_parameter("heads.images.weight"), float("nan"))
    output = taken(learning, mixed_batch(clips("images", 1, [3, 0]), clips("videos", 2, [4])))
    assert output.finite.tolist() == [True, False, False]  # videos are longer, so they come first
