"""Which weights learn."""

from __future__ import annotations

import pytest
from tests.family_runs import mixed_batch, model_of
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from cover.errors import RecipeError
from cover.models.classifier import VideoClassifier, saved_name
from cover.training.loss import loss
from cover.training.trained_weights import backward_share, freeze


def learning(model: VideoClassifier) -> set[str]:
    return {saved_name(name) for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_patterns_freeze_what_they_name() -> None:
    model = model_of("timesformer")
    every = learning(model)
    freeze(model, ["blocks.0.*", "*_embed", "heads.pets.bias"])
    frozen = every - learning(model)
    assert frozen == {name for name in every if name.startswith("blocks.0.")} | {
        "pos_embed", "time_embed", "heads.pets.bias"
    }  # fmt: skip
    loss(model(mixed_batch(2, 2)), mixed_batch(2, 2)).backward()
    found = {saved_name(name) for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert found == every - frozen


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["block.0.*"], r"optimizer\.freeze: 'block\.0\.\*' matches nothing; the nearest are blocks\.0\.\*, "),
        (["norm.*", "pos_embd"], r"'pos_embd' matches nothing; the nearest are pos_embed, "),
        (["*_embd"], r"'\*_embd' matches nothing; the nearest are \*pos_embed, "),
        (["backbone.*"], "'backbone.*' matches nothing"),
        (["*"], r"optimizer\.freeze = \['\*'\] leaves no weight to train; name fewer of them"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(patterns: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        freeze(model_of("timesformer"), patterns)


EMBEDDINGS = ["patch_embed.*", "*_embed", "cls_token"]


@pytest.mark.parametrize(
    ("patterns", "share"),
    [
        (["patch_embed.*"], 1),
        (EMBEDDINGS, 1),
        (["blocks.1.*", "norm.*"], 1),
        ([*EMBEDDINGS, "blocks.0.*"], 0.5),
        ([*EMBEDDINGS, "blocks.*"], 0),
        ([*EMBEDDINGS, "blocks.*", "norm.*"], 0),
    ],
)
def test_the_backward_pass_ends_at_the_first_layer_that_learns(patterns: list[str], share: float) -> None:
    """Nothing is kept for layers before it."""
    whole, model = model_of("timesformer"), model_of("timesformer")
    freeze(model, patterns)
    assert backward_share(model) == share
    assert kept(model) <= (share + 0.1) * kept(whole)


def kept(model: VideoClassifier) -> int:
    """How many numbers the forward pass keeps for the backward pass, without weights and heads."""
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    weights = sum(parameter.numel() for parameter in model.backbone.parameters())
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model(mixed_batch(2, 2))
    return max(0, sum(sizes) - weights)
