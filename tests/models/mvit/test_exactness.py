"""Logits and every gradient equal those of torchvision's MViT, and images equal those of an image MViT."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.models.mvit.golden import golden_config, golden_file, write
from tests.models.mvit.oracle import create_oracle, oracle_logits, our_name, our_shape, our_weights, small_config
from torch import Tensor

from cover.models.classifier import VideoClassifier, saved_name
from cover.models.mvit.config import VARIANTS
from cover.models.mvit.positions import axis_distances, resize_table

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
VERSIONS = ("mvitv1_base", "mvitv2_small")


def clips(num_frames: int, num_clips: int, size_px: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(num_frames, num_clips, 3, size_px, size_px, dtype=dtype)


def assert_equal(ours: Tensor | None, theirs: Tensor | None, what: str) -> None:
    """Equal to within the tolerance of their type, absolute for numbers up to one and relative above."""
    assert ours is not None
    tolerance = TOLERANCE[ours.dtype]
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance, msg=lambda text: f"{what}: {text}")


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
@pytest.mark.parametrize("widen_in", ["attention", "mlp"])
@pytest.mark.parametrize("variant", VERSIONS)
@pytest.mark.parametrize(
    ("num_frames", "size_px"),
    [
        (8, 32),
        (5, 38),  # an odd length; 10 tokens a side, which no stride divides; tables are resized
        (1, 32),
    ],
)
def test_logits_and_gradients_equal_torchvision(
    num_frames: int, size_px: int, variant: str, widen_in: str, dtype: torch.dtype
) -> None:
    torch.manual_seed(num_frames)
    config = small_config(variant, widen_in=widen_in)
    oracle = create_oracle(config).to(dtype)
    model = VideoClassifier(config).type(dtype)
    model.load_state_dict(our_weights(oracle))
    frames = clips(num_frames, 2, size_px, dtype)
    with torch.no_grad():
        assert_equal(model.eval()({"k400": frames})["k400"], oracle_logits(oracle.eval(), frames), "logits in eval")
    ours, theirs = model.train()({"k400": frames})["k400"], oracle_logits(oracle.train(), frames)
    assert_equal(ours, theirs, "logits in train mode")
    ours.square().mean().backward()
    theirs.square().mean().backward()
    gradients = {our_name(name): our_shape(our_name(name), p.grad) for name, p in oracle.named_parameters()}
    for name, parameter in model.named_parameters():
        assert_equal(parameter.grad, gradients[saved_name(name)], name)


@pytest.mark.parametrize("variant", VERSIONS)
def test_every_part_of_a_packed_batch_equals_torchvision_by_itself(variant: str) -> None:
    """Videos and images of unequal counts: equal logits, and gradients that are the sum of those of the parts."""
    torch.manual_seed(0)
    shapes = {"imagenet": (1, 5), "k400": (8, 2), "mit": (3, 2), "ssv2": (8, 1)}
    config = small_config(variant)
    oracle = create_oracle(config).double()
    model = VideoClassifier(small_config(variant, heads=shapes)).double()
    model.load_state_dict({name: tensor for head in shapes for name, tensor in our_weights(oracle, head).items()})
    batch = {name: clips(*shape, 32, torch.float64) for name, shape in shapes.items()}
    ours = model(batch)
    sum(logits.square().mean() for logits in ours.values()).backward()
    gradients = {saved_name(name): torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for head in shapes:
        oracle.zero_grad()
        theirs = oracle_logits(oracle, batch[head])
        assert_equal(ours[head], theirs, f"logits of {head}")
        theirs.square().mean().backward()
        for theirs_name, parameter in oracle.named_parameters():
            name = our_name(theirs_name, head)
            gradients[name] += our_shape(name, parameter.grad)
    for name, parameter in model.named_parameters():
        assert_equal(parameter.grad, gradients[saved_name(name)], name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_those_that_torchvision_has_stored(variant: str) -> None:
    """The same without torchvision (see golden.py), and from uint8 frames."""
    stored = load_file(golden_file(variant))
    model = VideoClassifier(golden_config(variant)).eval()
    model.load_state_dict({name: stored[f"model.{name}"] for name in model.state_dict()})
    found = model({"k400": stored["frames"]})["k400"]
    torch.testing.assert_close(found, stored["logits"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_golden_file_is_what_its_script_writes(variant: str, tmp_path: Path) -> None:
    create_oracle(small_config(variant))  # skips without torchvision
    write(variant, tmp_path / "golden.safetensors")
    kept, made = load_file(golden_file(variant)), load_file(tmp_path / "golden.safetensors")
    assert kept.keys() == made.keys() and os.stat(golden_file(variant)).st_size < 150_000
    for name, tensor in kept.items():
        torch.testing.assert_close(made[name], tensor, atol=1e-5, rtol=1e-5)


def test_the_distance_in_time_of_an_image_is_the_middle_of_the_table() -> None:
    table = torch.randn(15, 8)
    assert torch.equal(resize_table(table, 1), table[7:8])


def test_distances_that_are_no_whole_numbers_are_rounded_as_in_the_published_code() -> None:
    """Of the Large model at 312 px: 78 queries and 10 keys. In whole numbers, 103 of them would differ."""
    queries, keys = torch.arange(78)[:, None], torch.arange(10)
    published = queries * 1.0 - keys * (78 / 10)
    published += 9 * (78 / 10)
    found = axis_distances(78, 10, torch.device("cpu"))
    assert torch.equal(found, published.long())
    assert (found != (queries * 10 + (9 - keys) * 78) // 10).sum() == 103
