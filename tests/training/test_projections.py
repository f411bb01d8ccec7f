"""The projection loss: its formula, what it learns, and which weights it trains."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe
from cover.core.batch import UNREADABLE
from cover.errors import RecipeError
from cover.models.classifier import VideoClassifier
from cover.models.create import create_model
from cover.training.engine import Engine
from cover.training.objective import StepOutput, Supervised
from cover.training.packed_batch import HeadLoss, PackedBatch
from cover.training.projections import Projections, num_weights

CLASSES = {"jumps": 3, "pets": 2, "turns": 4}
WEIGHTS = {"jumps": 2.0, "pets": 1.0, "turns": 0.5}


def recipe(**training: Any) -> Recipe:
    datasets = {name: {"train": "none.arrow", "loss_weight": WEIGHTS[name]} for name in CLASSES}
    return parse_recipe({"policy": "cotrain", "datasets": datasets, "training": training}, "test")


def batch_of(numbers: list[int], labels: list[int], classes: Tensor) -> PackedBatch:
    return PackedBatch(
        inputs=torch.zeros(0),
        seeds=torch.zeros(len(labels), dtype=torch.int64),
        numbers=torch.tensor(numbers),
        labels=torch.tensor(labels),
        factors=torch.tensor([WEIGHTS[name] / max(numbers.count(i), 1) for i, name in enumerate(CLASSES)]),
        groups=(),
        datasets=tuple(CLASSES),
        classes=classes,
    )


def step(settings: Recipe, logits: dict[str, Tensor], batch: PackedBatch) -> StepOutput:
    class Known(nn.Module):
        def forward(self, _: object) -> dict[str, Tensor]:
            return logits

    return Supervised(settings, losses={"pets": HeadLoss("bce", 2)}).step(Known(), batch)


def test_the_loss_is_the_formula_by_hand() -> None:
    """Five clips: two of jumps, one of them unreadable, two of pets with several classes each, and one of turns."""
    numbers, labels = [0, 0, 1, 1, 2], [2, UNREADABLE, 0, 1, 3]
    classes = torch.tensor([[0.0, 0], [0, 0], [1, 0], [1, 1], [0, 0]])
    generator = torch.Generator().manual_seed(0)
    logits = {name: torch.randn(5, size, generator=generator) for name, size in CLASSES.items()}
    maps = Projections(CLASSES, seed=3)
    assert num_weights(CLASSES) == sum(weight.numel() for weight in maps.parameters()) == 2 * (3 * 2 + 3 * 4 + 2 * 4)

    def loss_of(name: str, values: Tensor) -> Tensor:
        if name == "pets":
            return F.binary_cross_entropy_with_logits(values[2:4], classes[2:4], reduction="none").mean(1).sum() / 2
        if name == "jumps":
            return F.cross_entropy(values[:1], torch.tensor([2]), label_smoothing=0.1) / 2  # the unreadable one counts
        return F.cross_entropy(values[4:], torch.tensor([3]), label_smoothing=0.1)

    expected = torch.tensor(0.0)
    for name, own in logits.items():
        others = [logits[other] @ maps.get_parameter(f"{other}->{name}.weight").T for other in CLASSES if other != name]
        mean = sum(loss_of(name, values) for values in others) / 2
        expected = expected + WEIGHTS[name] * (loss_of(name, own) + 0.7 * mean)
    settings = recipe(projection_weight=0.7, label_smoothing=0.1)
    settings = settings.model_copy(
        update={
            "datasets": settings.datasets
            | {"pets": settings.datasets["pets"].model_copy(update={"label_smoothing": 0.0})}
        }
    )
    batch = batch_of(numbers, labels, classes=classes)
    output = step(settings, logits | maps(logits), batch)
    torch.testing.assert_close(output.total, expected)
    plain = step(settings.model_copy(update={"training": recipe(label_smoothing=0.1).training}), logits, batch)
    assert output.sums[0].equal(plain.sums[0]), "the loss of a dataset is shown without projections"


def test_a_map_finds_which_classes_are_the_same() -> None:
    """Two label spaces of five classes each: class c of one is class 4 - c of the other."""
    maps = Projections({"a": 5, "b": 5}, seed=0)
    optimizer = torch.optim.SGD(maps.parameters(), lr=1.0)
    labels = torch.arange(5)
    logits = 4 * F.one_hot(labels, 5).float()
    for _ in range(60):
        found = maps({"a": logits, "b": logits})
        loss = F.cross_entropy(found["a->b"], 4 - labels) + F.cross_entropy(found["b->a"], 4 - labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name in ("a->b", "b->a"):
        assert maps.get_parameter(f"{name}.weight").argmax(1).tolist() == [4, 3, 2, 1, 0]


def model() -> VideoClassifier:
    return create_model("timesformer_tiny", depth=1, width=12, num_heads=1, num_frames=2, image_size=32, heads=CLASSES)


def test_maps_are_trained_and_resumed_and_are_no_part_of_the_model() -> None:
    settings = recipe(projection_weight=1.0, ema_decay=0.5)
    engine = Engine(model(), Supervised(settings), settings, Accelerator(cpu=True))
    trained = {id(parameter) for group in engine.optimizer.param_groups for parameter in group["params"]}
    named = {name: weight for name, weight in engine.model.named_parameters() if name.startswith("projections.")}
    assert len(named) == 6 and all(id(weight) in trained for weight in named.values())
    with torch.no_grad():
        for weight in named.values():
            weight.add_(1)
    assert engine.weights().keys() == model().state_dict().keys()
    kept = engine.training_tensors()
    other = Engine(model(), Supervised(settings), settings, Accelerator(cpu=True))
    other.restore(kept)
    for name, weight in named.items():
        assert other.model.get_parameter(name).equal(weight)
    without = recipe()
    Engine(model(), Supervised(without), without, Accelerator(cpu=True)).restore(
        {name: tensor for name, tensor in kept.items() if name.startswith("weights/projections.")}
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"policy": "probe", "init": "weights"},
            "training.projection_weight = 1 trains heads through each other, and policy 'probe' trains each by "
            "itself; leave it out",
        ),
        (
            {"datasets": {"jumps": {"train": "none.arrow"}}},
            "training.projection_weight = 1 maps the classes of other datasets, and there is one; leave it out",
        ),
    ],
)
def test_recipes_without_other_heads_are_refused(changes: dict[str, Any], expected: str) -> None:
    values = recipe(projection_weight=1.0).model_dump(mode="json", exclude_none=True)
    with pytest.raises(RecipeError, match=re.escape(expected)):
        parse_recipe(values | changes, "test")
