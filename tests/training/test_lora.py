"""Adapters of linear layers, for every family."""

from __future__ import annotations

import pytest
import torch
from tests.family_runs import TINY, mixed_batch, model_of
from torch import Tensor

from cover.config.training_sections import LoraSection
from cover.errors import RecipeError
from cover.models.classifier import VideoClassifier
from cover.training.lora import LowRank, adapt, merged
from cover.training.loss import loss

SECTION = LoraSection(rank=2, alpha=3, targets=("*.qkv", "*.proj", "*.fc1"))


def logits_of(model: VideoClassifier) -> dict[str, Tensor]:
    with torch.no_grad():
        found: dict[str, Tensor] = model.eval()(mixed_batch(2, 2))
    return found


@pytest.mark.parametrize("family", TINY)
def test_adapters_begin_without_effect_and_compute_what_the_merged_weights_do(family: str) -> None:
    plain, model = model_of(family), model_of(family)
    adapt(model, SECTION, seed=0)
    for name, logits in logits_of(plain).items():
        assert torch.equal(logits_of(model)[name], logits)
    loss(model.train()(mixed_batch(2, 2)), mixed_batch(2, 2)).backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    adapters = [module for module in model.modules() if isinstance(module, LowRank)]
    assert len(adapters) > 4 and len(learning) == 2 * len(adapters) + 4  # the two heads have a weight and a bias
    assert all(name.startswith("heads.") or name.endswith(("lora_A", "lora_B")) for name in learning)
    with torch.no_grad():
        for adapter in adapters:
            torch.nn.init.normal_(adapter.lora_B)
    plain.load_state_dict(merged(model.state_dict(), SECTION))
    for name, logits in logits_of(plain).items():
        torch.testing.assert_close(logits_of(model)[name], logits, rtol=0, atol=1e-6)


def test_what_learns_whole_has_no_adapter() -> None:
    model = model_of("timesformer")
    adapt(model, LoraSection(train=("*temporal*", "time_embed")), seed=0)
    learning = {
        name.removeprefix("backbone.") for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    parts = {f"blocks.{block}.attn.qkv.parametrizations.weight.0.lora_{part}" for block in (0, 1) for part in "AB"}
    whole = {name for name in model_of("timesformer").state_dict() if "temporal" in name or "heads." in name}
    assert learning == parts | whole | {"time_embed"}


def test_patterns_that_match_nothing_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"optimizer\.lora\.targets: '\*\.query' matches nothing; the nearest are "):
        adapt(model_of("timesformer"), LoraSection(targets=("*.query",)), seed=0)
    with pytest.raises(RecipeError, match=r"optimizer\.lora\.train: 'heads\.\*' matches nothing"):
        adapt(model_of("timesformer"), LoraSection(train=("heads.*",)), seed=0)
