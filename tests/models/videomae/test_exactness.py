"""Logits and every gradient equal those of the published VideoMAE, as transformers keeps it."""

from __future__ import annotations

import pytest
import torch
from tests.models.videomae.videomaes import by_our_names, clips, create_oracle, oracle_logits, small_model
from torch import Tensor
from transformers import VideoMAEForVideoClassification

from cover.models.classifier import VideoClassifier, saved_name

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def assert_equal(ours: Tensor | None, theirs: Tensor | None, what: str) -> None:
    """Equal to within the absolute tolerance of their type."""
    assert ours is not None
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE[ours.dtype], rtol=0, msg=lambda text: f"{what}: {text}")


def gradients_of(oracle: VideoMAEForVideoClassification, head: str = "k400") -> dict[str, Tensor]:
    return by_our_names({name: p.grad for name, p in oracle.named_parameters() if p.grad is not None}, head)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
@pytest.mark.parametrize("size_px", [32, 48])
@pytest.mark.parametrize("num_frames", [1, 2, 8, 16])
def test_logits_and_gradients_equal_the_published_model(num_frames: int, size_px: int, dtype: torch.dtype) -> None:
    torch.manual_seed(num_frames)
    oracle = create_oracle(num_frames=max(num_frames, 2), image_size=size_px).type(dtype)
    model = small_model().type(dtype)  # one of 4 × 32, which takes any clip
    model.load_state_dict(by_our_names(oracle.state_dict()))
    frames = clips(num_frames, 2, size_px, dtype)
    with torch.no_grad():
        assert_equal(model({"k400": frames})["k400"], oracle_logits(oracle, frames), "logits in eval mode")
    ours, theirs = model.train()({"k400": frames})["k400"], oracle_logits(oracle.train(), frames)
    assert_equal(ours, theirs, "logits in train mode")
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
    model = small_model(heads=dict.fromkeys(names, 5)).type(dtype).train()
    batch = {name: clips(t, b, dtype=dtype) for name, t, b in zip(names, lengths, num_clips, strict=True)}
    ours = model(batch)
    sum(logits.square().mean() for logits in ours.values()).backward()
    gradients = {saved_name(name): torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for head, frames in batch.items():
        oracle = with_weights(create_oracle(num_frames=max(len(frames), 2)).type(dtype), model, head)
        theirs = oracle_logits(oracle, frames)
        assert_equal(ours[head], theirs, f"logits of {head}")
        theirs.square().mean().backward()
        for name, gradient in gradients_of(oracle, head).items():
            gradients[name] += gradient
    for name, parameter in model.named_parameters():
        assert_equal(parameter.grad, gradients[saved_name(name)], name)


def with_weights(
    oracle: VideoMAEForVideoClassification, model: VideoClassifier, head: str
) -> VideoMAEForVideoClassification:
    """Give the oracle the weights of our model."""
    ours = by_our_names(oracle.state_dict(), head)  # views where the layouts are equal
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("attn.qkv.weight"):
                layer = f"videomae.encoder.layer.{name.split('.')[1]}.attention.attention"
                for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    oracle.get_parameter(f"{layer}.{part}.weight").copy_(rows)
            elif name in ours:
                ours[name].copy_(tensor)
    return oracle
