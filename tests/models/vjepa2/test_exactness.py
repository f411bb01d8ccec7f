"""Logits and every gradient equal those of V-JEPA 2 as transformers keeps it, with attentive and linear heads."""

from __future__ import annotations

import pytest
import torch
from tests.models.vjepa2.vjepas import by_our_names, clips, create_oracle, oracle_logits, small_model
from torch import Tensor
from transformers import VJEPA2ForVideoClassification

from cover.models.classifier import VideoClassifier, saved_name

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def assert_equal(ours: Tensor | None, theirs: Tensor | None, what: str) -> None:
    """Equal to within the tolerance of their type, relative to the largest value if that is above 1."""
    assert ours is not None and theirs is not None
    atol = TOLERANCE[ours.dtype] * max(1.0, float(theirs.detach().abs().max()))
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0, msg=lambda text: f"{what}: {text}")


def gradients_of(oracle: VJEPA2ForVideoClassification, head: str = "k400") -> dict[str, Tensor]:
    return by_our_names({name: p.grad for name, p in oracle.named_parameters() if p.grad is not None}, head)


def with_weights_of(model: VideoClassifier, oracle: VJEPA2ForVideoClassification) -> VideoClassifier:
    """Give our model the oracle's weights; a linear model leaves out those of the pooler."""
    ours = by_our_names(oracle.state_dict())
    model.load_state_dict({name: ours[name] for name in model.state_dict()})
    return model


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
@pytest.mark.parametrize("head", ["attentive", "linear"])
@pytest.mark.parametrize(("num_frames", "size_px"), [(1, 32), (2, 32), (8, 40), (4, 24)])
def test_logits_and_gradients_equal_the_published_model(
    num_frames: int, size_px: int, head: str, dtype: torch.dtype
) -> None:
    torch.manual_seed(num_frames)
    oracle = create_oracle(num_frames=num_frames, image_size=size_px).type(dtype)
    model = with_weights_of(small_model(head=head).type(dtype), oracle)  # one of 4 × 32, which takes any clip
    frames, linear = clips(num_frames, 2, size_px, dtype), head == "linear"
    with torch.no_grad():
        assert_equal(model({"k400": frames})["k400"], oracle_logits(oracle, frames, linear=linear), "logits in eval")
    ours = model.train()({"k400": frames})["k400"]
    theirs = oracle_logits(oracle.train(), frames, linear=linear)
    assert_equal(ours, theirs, "logits in train")
    ours.square().mean().backward()
    theirs.square().mean().backward()
    gradients = gradients_of(oracle)
    assert gradients.keys() == model.state_dict().keys()
    for name, parameter in model.named_parameters():
        assert_equal(parameter.grad, gradients[saved_name(name)], name)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
@pytest.mark.parametrize("lengths", [(1, 4, 8), (1, 2, 4)], ids=["three token counts", "an image and a tubelet"])
def test_every_part_of_a_packed_batch_equals_the_published_model_by_itself(
    lengths: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Videos of two lengths and images: equal logits, and gradients that are the sum of those of the parts."""
    torch.manual_seed(0)
    names, num_clips = ("imagenet", "k400", "ssv2"), (5, 2, 1)
    oracle = create_oracle().type(dtype)
    model = small_model(heads=dict.fromkeys(names, 5)).type(dtype).train()
    ours = by_our_names(oracle.state_dict())
    model.load_state_dict({name: ours[name.replace("ssv2", "k400").replace("imagenet", "k400")] for name in
                           model.state_dict()})  # fmt: skip
    batch = {name: clips(t, b, dtype=dtype) for name, t, b in zip(names, lengths, num_clips, strict=True)}
    logits = model(batch)
    sum(values.square().mean() for values in logits.values()).backward()
    expected = {saved_name(name): torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for head, frames in batch.items():
        oracle.zero_grad()
        theirs = oracle_logits(oracle, frames)
        assert_equal(logits[head], theirs, f"logits of {head}")
        theirs.square().mean().backward()
        for name, gradient in gradients_of(oracle, head).items():
            expected[name] += gradient
    for name, parameter in model.named_parameters():
        assert_equal(parameter.grad, expected[saved_name(name)], name)
