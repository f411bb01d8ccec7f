"""Logits and every gradient equal those of torchvision's Video Swin, and of the image Swin on still clips."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.models.video_swin.golden import FILE as GOLDEN
from tests.models.video_swin.golden import HEADS, SETTINGS, frames_of
from tests.models.video_swin.oracle import SMALL, create_oracle, oracle_logits, our_name, our_weights
from torch import Tensor
from transformers import SwinConfig, SwinForImageClassification

from cover.models.classifier import VideoClassifier, saved_name
from cover.models.create import create_model
from cover.models.kernels.relative_bias import plain_expand
from cover.models.loading import load_weights

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
WINDOW = (2, 2, 2)


def clips(num_frames: int, num_clips: int, size_px: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(num_frames, num_clips, 3, size_px, size_px, dtype=dtype)


def assert_equal(ours: Tensor | None, theirs: Tensor | None, what: str) -> None:
    """Equal to within the tolerance of their type, absolute for numbers up to one and relative above."""
    assert ours is not None
    tolerance = TOLERANCE[ours.dtype]
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance, msg=lambda text: f"{what}: {text}")


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("num_frames", "size_px", "window"),
    [
        (8, 32, WINDOW),  # whole windows
        (7, 38, WINDOW),  # frames, pixels, windows and patches to merge are padded
        (2, 24, (8, 2, 2)),  # a window that is longer than the clip
        (16, 24, (4, 3, 3)),  # as many rows as a window has after merging
        (1, 32, WINDOW),
    ],
)
def test_logits_and_gradients_equal_torchvision(
    num_frames: int, size_px: int, window: tuple[int, int, int], dtype: torch.dtype
) -> None:
    torch.manual_seed(num_frames)
    oracle = create_oracle(window).to(dtype)
    model = create_model("video_swin_tiny", **SMALL, window=window, heads={"k400": 5}).type(dtype)
    model.load_state_dict(our_weights(oracle))
    frames = clips(num_frames, 2, size_px, dtype)
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
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-6


def test_every_part_of_a_packed_batch_equals_torchvision_by_itself() -> None:
    """Videos and images of unequal counts: equal logits, and gradients that are the sum of those of the parts."""
    torch.manual_seed(0)
    shapes = {"imagenet": (1, 5), "k400": (8, 2), "mit": (3, 2), "ssv2": (8, 1)}
    oracle = create_oracle(WINDOW).double()
    model = create_model("video_swin_tiny", **SMALL, window=WINDOW, heads=dict.fromkeys(shapes, 5)).double()
    weights = {key: tensor for head in shapes for key, tensor in our_weights(oracle, head).items()}
    model.load_state_dict(weights)
    batch = {name: clips(*shape, 32, torch.float64) for name, shape in shapes.items()}
    ours = model(batch)
    sum(logits.square().mean() for logits in ours.values()).backward()
    gradients = {saved_name(name): torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for head in shapes:
        oracle.zero_grad()
        theirs = oracle_logits(oracle, batch[head])
        assert_equal(ours[head], theirs, f"logits of {head}")
        theirs.square().mean().backward()
        for name, parameter in oracle.named_parameters():
            assert parameter.grad is not None
            gradients[our_name(name, head)] += parameter.grad
    for name, parameter in model.named_parameters():
        assert_equal(parameter.grad, gradients[saved_name(name)], name)


def test_windows_that_are_cut_short_in_space_have_the_right_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision equals our model once it reads the biases of the places that the tokens are at, and only then."""
    torch.manual_seed(0)
    window = (2, 7, 7)
    oracle = create_oracle(window).double()
    model = create_model("video_swin_tiny", **SMALL, window=window, heads={"k400": 5}).double()
    model.load_state_dict(our_weights(oracle))
    frames = clips(4, 2, 20, torch.float64)  # 5 × 5 patches, then 3 × 3
    ours = model.predict(frames)["k400"]
    assert not torch.allclose(ours, oracle_logits(oracle, frames), atol=1e-3)

    def corrected(attention: torch.nn.Module, size: list[int]) -> Tensor:
        slots, rows, columns = size
        table = attention.relative_position_bias_table
        assert isinstance(table, Tensor)
        return plain_expand(table, (slots, rows, columns), window)[None]

    attention = type(oracle.get_submodule("features.0.0.attn"))
    monkeypatch.setattr(attention, "get_relative_position_bias", corrected)
    assert_equal(ours, oracle_logits(oracle, frames), "logits")


def test_logits_equal_those_that_torchvision_has_stored() -> None:
    """The same without torchvision (see golden.py), and from uint8 frames."""
    stored = load_file(GOLDEN)
    model = create_model("video_swin_tiny", **SETTINGS, heads=HEADS).eval()
    model.load_state_dict({name: stored[f"model.{name}"] for name in model.state_dict()})
    for name, logits in model(frames_of(stored)).items():
        torch.testing.assert_close(logits, stored[f"logits.{name}"], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def image_swin() -> SwinForImageClassification:
    torch.manual_seed(0)
    labels: dict[str, Any] = {"num_labels": 5}
    config = SwinConfig(image_size=56, embed_dim=16, depths=[2, 2], num_heads=[1, 2], window_size=7, **labels)
    swin = SwinForImageClassification(config)
    for parameter in swin.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    swin.eval()
    return swin


@pytest.mark.parametrize("num_frames", [1, 2, 8, 32])
def test_a_still_clip_is_the_image_of_the_image_model_it_starts_from(
    image_swin: SwinForImageClassification, num_frames: int, tmp_path: Path
) -> None:
    image_swin.float().save_pretrained(tmp_path)
    model = video_model(tmp_path).double().eval()
    images = torch.randn(2, 3, 56, 56, dtype=torch.float64)
    expected = image_swin.double()(images).logits
    found = model.predict(images.expand(num_frames, -1, -1, -1, -1))["head"]
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def video_model(source: Path) -> VideoClassifier:
    model = create_model("video_swin_tiny", **SMALL, image_size=56, heads={"head": 5})
    report = load_weights(model, source)
    assert not report.fresh and not report.unused
    assert [name.rpartition(".")[2] for name in report.resized] == 4 * ["relative_position_bias_table"]
    return model


def test_the_golden_file_is_what_its_script_writes(tmp_path: Path) -> None:
    from tests.models.video_swin.golden import write

    create_oracle(WINDOW)  # skips without torchvision
    write(tmp_path / "golden.safetensors")
    kept, made = load_file(GOLDEN), load_file(tmp_path / "golden.safetensors")
    assert kept.keys() == made.keys() and os.stat(GOLDEN).st_size < 300_000
    for name, tensor in kept.items():
        torch.testing.assert_close(made[name], tensor, atol=1e-5, rtol=0)
