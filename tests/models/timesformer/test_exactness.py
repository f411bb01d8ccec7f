"""Logits and every gradient equal those of the published VideoClassifier, as transformers keeps it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from tests.models.oracle import create_oracle, oracle_logits, our_name, our_weights
from torch import Tensor
from transformers import TimesformerForVideoClassification

from cover.models.classifier import VideoClassifier, saved_name
from cover.models.create import create_model

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
ATTENTIONS = ("divided", "joint", "space_only")


def model_like(oracle: TimesformerForVideoClassification, attention: str, heads: Mapping[str, int]) -> VideoClassifier:
    """Our model of the oracle\'s architecture, with heads of its own."""
    assert isinstance(oracle.config.image_size, int)
    return create_model(
        "timesformer_tiny",
        attention=attention,
        heads=heads,
        depth=oracle.config.num_hidden_layers,
        width=oracle.config.hidden_size,
        num_heads=oracle.config.num_attention_heads,
        num_frames=oracle.config.num_frames,
        image_size=oracle.config.image_size,
        patch_size=oracle.config.patch_size,
    )


def clips(num_frames: int, num_clips: int, size_px: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(num_frames, num_clips, 3, size_px, size_px, dtype=dtype)


def assert_equal(ours: Tensor | None, theirs: Tensor | None, what: str) -> None:
    """Equal to within the absolute tolerance of their type."""
    assert ours is not None
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE[ours.dtype], rtol=0, msg=lambda text: f"{what}: {text}")


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
@pytest.mark.parametrize("size_px", [32, 64, 224])
@pytest.mark.parametrize("num_frames", [1, 4, 8, 16])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_logits_and_gradients_equal_the_published_model(
    attention: str, num_frames: int, size_px: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(num_frames)
    oracle = create_oracle(
        attention=attention,
        num_frames=num_frames,
        image_size=size_px,
        patch_size=32 if (attention, size_px) == ("joint", 224) else 16,  # its joint attention keeps (T·N)² weights
        hidden_size=24,
        num_attention_heads=2,
    ).type(dtype)
    model = model_like(oracle, attention, {"k400": 5}).type(dtype)
    model.load_state_dict(our_weights(oracle))
    frames = clips(num_frames, 1 if size_px == 224 else 2, size_px, dtype)
    with torch.no_grad():
        assert_equal(
            model.eval()({"k400": frames})["k400"], oracle_logits(oracle.eval(), frames), "logits in eval mode"
        )
    ours, theirs = model.train()({"k400": frames})["k400"], oracle_logits(oracle.train(), frames)
    assert_equal(ours, theirs, "logits in train mode")
    ours.square().mean().backward()
    theirs.square().mean().backward()
    gradients = {our_name(name): parameter.grad for name, parameter in oracle.named_parameters()}
    for name, parameter in model.named_parameters():
        assert_equal(parameter.grad, gradients[saved_name(name)], name)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_every_part_of_a_packed_batch_equals_the_published_model_by_itself(attention: str) -> None:
    """Videos and images of unequal counts: equal logits, and gradients that are the sum of those of the parts."""
    torch.manual_seed(0)
    num_clips, num_frames = {"imagenet": 5, "k400": 2, "ssv2": 1}, {"imagenet": 1, "k400": 4, "ssv2": 4}
    oracles = {
        name: create_oracle(attention=attention, num_frames=num_frames[name], num_labels=5).double()
        for name in num_clips
    }
    model = model_like(oracles["k400"], attention, dict.fromkeys(oracles, 5)).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    batch = {name: clips(num_frames[name], num_clips[name], 32, torch.float64) for name in oracles}
    ours = model(batch)
    sum(logits.square().mean() for logits in ours.values()).backward()
    gradients = {saved_name(name): torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for head, oracle in oracles.items():
        # An image sees the first time embedding only.
        places = {name: ours_for(name, head, parameter.shape) for name, parameter in oracle.named_parameters()}
        weights = model.state_dict()
        oracle.load_state_dict({name: weights[our][place] for name, (our, place) in places.items()})
        theirs = oracle_logits(oracle, batch[head])
        assert_equal(ours[head], theirs, f"logits of {head}")
        theirs.square().mean().backward()
        for name, parameter in oracle.named_parameters():
            our, place = places[name]
            assert parameter.grad is not None
            gradients[our][place] += parameter.grad
    for name, parameter in model.named_parameters():
        assert_equal(parameter.grad, gradients[saved_name(name)], name)


def ours_for(their_name: str, head: str, shape: torch.Size) -> tuple[str, tuple[slice, ...]]:
    """Our name of an oracle's parameter and the part of ours that it is: all, but for time embeddings of one frame."""
    return our_name(their_name, head), tuple(slice(size) for size in shape)
