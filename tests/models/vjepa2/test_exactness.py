"""Logits and every gradient equal those of V-JEPA 2 as transformers keeps it, with attentive and linear heads.

transformers has no V-JEPA 2.1. Its features and gradients equal those that golden.py stored from the official code, and
its formula, written out here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.models.vjepa2 import golden
from tests.models.vjepa2.vjepas import by_our_names, clips, create_oracle, oracle_logits, small_model
from torch import Tensor
from transformers import VJEPA2ForVideoClassification

from cover.models.classifier import VideoClassifier, saved_name
from cover.models.loading import load_weights

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
AXIS = 8
"""Features of a head that belong to an axis: a third of 24."""
LAST = 256 // 16 - 1
"""The last row and column, in frames of any size."""


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


def formula(weights: dict[str, Tensor], clip_CTYX: Tensor) -> Tensor:
    """Return the mean token of a clip of a V-JEPA 2.1, [D]."""
    is_image = clip_CTYX.shape[1] == 1
    layer, kind = ("patch_embed_img", "img_mod_embed") if is_image else ("patch_embed", "video_mod_embed")
    kernel, bias = weights[f"{layer}.proj.weight"], weights[f"{layer}.proj.bias"]
    grid_DTYX = F.conv3d(clip_CTYX[None], kernel, bias, stride=kernel.shape[2:])[0]
    turns_LP = turns(grid_DTYX.shape[1:])
    x_LD = grid_DTYX.flatten(1).T + weights[kind][0]
    for block in ("blocks.0", "blocks.1"):
        of = {name.removeprefix(f"{block}."): w for name, w in weights.items() if name.startswith(f"{block}.")}
        qkv = F.linear(norm(x_LD, of, "norm1"), of["attn.qkv.weight"], of["attn.qkv.bias"])
        query, key, value = qkv.unflatten(1, (3, 2, -1)).permute(1, 2, 0, 3)
        scores = turned(query, turns_LP) @ turned(key, turns_LP).mT / query.shape[-1] ** 0.5
        mixed_LD = (scores.softmax(-1) @ value).transpose(0, 1).flatten(1)
        x_LD = x_LD + F.linear(mixed_LD, of["attn.proj.weight"], of["attn.proj.bias"])
        hidden = F.gelu(F.linear(norm(x_LD, of, "norm2"), of["mlp.fc1.weight"], of["mlp.fc1.bias"]))
        x_LD = x_LD + F.linear(hidden, of["mlp.fc2.weight"], of["mlp.fc2.bias"])
    return norm(x_LD, weights, "norm").mean(0)


def norm(x_LD: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x_LD, x_LD.shape[1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)


def turns(grid: torch.Size) -> Tensor:
    """Return the rotations of neighbouring features, as complex numbers [tokens, pairs of a head]."""
    found = []
    for slot in range(grid[0]):
        for row in range(grid[1]):
            for column in range(grid[2]):
                places = slot, row * LAST / (grid[1] - 1), column * LAST / (grid[2] - 1)
                found.append([place * 10000 ** (-pair / (AXIS / 2)) for place in places for pair in range(AXIS // 2)])
    angles_LP = torch.tensor(found, dtype=torch.float64)
    return torch.polar(torch.ones_like(angles_LP), angles_LP)


def turned(vectors_HLE: Tensor, turns_LP: Tensor) -> Tensor:
    pairs = torch.view_as_complex(vectors_HLE.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turns_LP).flatten(-2)


@pytest.mark.parametrize(("num_frames", "size_px"), [(1, 64), (2, 64), (4, 80)])
def test_version_2_1_equals_its_formula(num_frames: int, size_px: int) -> None:
    torch.manual_seed(num_frames)
    model = small_model("vjepa2_1_base", head="linear", patch_size=16, image_size=64).double()
    frames = clips(num_frames, 2, size_px, torch.float64)
    weights = {name: w.detach().clone().requires_grad_() for name, w in model.backbone.named_parameters()}
    expected = torch.stack([formula(weights, clip) for clip in frames.permute(1, 2, 0, 3, 4)])
    features = model.features(frames)
    torch.testing.assert_close(features, expected, atol=1e-10, rtol=0)
    features.square().sum().backward()
    expected.square().sum().backward()
    for name, parameter in model.backbone.named_parameters():
        gradient = weights[name].grad
        if gradient is None:  # of the other kind of media
            assert parameter.grad is None, name
        else:
            assert_equal(parameter.grad, gradient, name)


@pytest.mark.parametrize("kind", golden.CLIPS)
def test_version_2_1_equals_the_official_code(kind: str, tmp_path: Path) -> None:
    stored = {name: torch.from_numpy(values) for name, values in np.load(golden.FILE).items()}
    shapes = {name.removeprefix("shape/"): tuple(stored[name].tolist()) for name in stored if name.startswith("shape/")}
    official = {f"module.backbone.{name}": weight for name, weight in golden.weights(shapes).items()}
    torch.save({"target_encoder": official}, tmp_path / "vitb.pt")
    model = small_model(
        "vjepa2_1_base",
        depth=golden.DEPTH,
        width=golden.WIDTH,
        num_heads=golden.HEADS,
        patch_size=golden.PATCH,
        image_size=64,
        head="linear",
    ).double()
    report = load_weights(model, tmp_path / "vitb.pt")
    assert {name.partition(".")[0] for name in report.fresh} == {"heads"}
    features = model.features(golden.clips()[kind].permute(2, 0, 1, 3, 4))
    assert_equal(features, stored[f"{kind}/features"], "features")
    features.square().sum().backward()
    expected = {n.removeprefix(f"{kind}/gradient/"): v for n, v in stored.items() if n.startswith(f"{kind}/gradient/")}
    theirs = {"norm.weight": "norms_block.3.weight", "norm.bias": "norms_block.3.bias"}
    parameters = model.backbone.named_parameters()
    gradients = {theirs.get(name, name): p.grad for name, p in parameters if p.grad is not None}
    assert gradients.keys() == expected.keys()
    for name, found in golden.fingerprints(gradients).items():
        assert_equal(found, expected[name], name)
