from __future__ import annotations

import pytest
import torch
from tests.models.videomae.videomaes import clips, small_model

from cover.errors import CoverError
from cover.models.create import create_model, num_parameters
from cover.models.info import multiply_adds
from cover.models.kernels.residual import Residual, Tokens
from cover.models.packing import Group
from cover.models.videomae.config import variant_config
from cover.models.videomae.model import sine_positions
from cover.models.vit.tubelets import mean_tokens


@pytest.mark.parametrize(
    ("variant", "parameters", "giga"),
    [
        ("videomae_small", 22_033_936, 56.9),
        ("videomae_base", 86_534_800, 180.3),
        ("videomae_large", 304_270_736, 596.8),
    ],
)
def test_sizes_and_costs_are_the_published_ones(variant: str, parameters: int, giga: float) -> None:
    config = variant_config(variant, {"k400": 400})
    assert num_parameters(config) == parameters
    assert round(multiply_adds(config) / 1e9, 1) == giga


def test_giant_is_that_of_version_2() -> None:
    config = variant_config("videomae_giant", {"k710": 710})
    assert (config.depth, config.width, config.patch_size_px, config.mlp_width) == (40, 1408, 14, 6144)
    assert num_parameters(config) == 1_012_611_142


def test_an_image_is_a_still_clip_of_one_tubelet_at_less_cost() -> None:
    model, image = small_model(), clips(1, 3)
    still = image.expand(2, -1, -1, -1, -1)
    torch.testing.assert_close(model({"k400": image}), model({"k400": still}), atol=1e-6, rtol=0)
    cost, still_cost = (model.backbone.multiply_adds(num_frames, 32, 32) for num_frames in (1, 2))
    assert still_cost - cost == 4 * 3 * 16 * 16 * 24  # half of the embedding, the rest is equal


def test_the_order_of_frames_matters_within_and_between_tubelets() -> None:
    torch.manual_seed(0)
    model, frames = small_model().double(), clips(4, 2, dtype=torch.float64)
    logits = model({"k400": frames})["k400"]
    for order in ([3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]):
        assert (model({"k400": frames[order]})["k400"] - logits).abs().max() > 1e-5


def test_positions_of_a_longer_clip_begin_with_those_of_a_shorter_one() -> None:
    short, long = (sine_positions(length, 7, torch.device("cpu")) for length in (4, 16))
    assert torch.equal(long[:4], short)
    assert short[3, 4].item() == pytest.approx(torch.tensor(3 / 10000 ** (4 / 7)).sin().item())


def test_the_mean_of_tokens_in_two_halves_is_that_of_their_sums() -> None:
    torch.manual_seed(0)
    exact, values, bias, scale = torch.randn(5, 4, 6), torch.randn(5, 4, 6), torch.randn(6), torch.rand(5)
    halves = Tokens(exact.bfloat16(), (exact - exact.bfloat16().float()).bfloat16())
    means = mean_tokens(halves, Residual(values, bias, scale, "all"), (Group(2, 2), Group(1, 1)))
    added = halves.exact + (values + bias) * scale[:, None, None]
    expected = torch.stack([added[rows].flatten(0, 1).mean(0) for rows in (slice(0, 2), slice(2, 4), slice(4, 5))])
    torch.testing.assert_close(means, expected)


def test_layers_are_numbered_from_the_embedding_to_the_head() -> None:
    model = small_model()
    names = {"patch_embed.proj.weight": 0, "blocks.0.attn.q_bias": 1, "blocks.1.mlp.fc2.weight": 2, "fc_norm.bias": 3}
    assert {name: model.layer_of(f"backbone.{name}") for name in names} == names
    assert model.layer_of("heads.k400.weight") == model.num_layers == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_frames": 3}, "num_frames 3 is not a multiple of 2, the frames of a VideoMAE's tubelet; use 2 or 4"),
        ({"num_frames": 2, "tubelet_size": 4}, "num_frames 2 is not a multiple of 4, .*; use 4, or 1 for images"),
        ({"image_size": 100}, "image_size 100 is not a multiple of patch_size 16; use 96"),
        ({"num_heads": 5}, "width 24 is not a multiple of the 5 attention heads; change one of them"),
        ({"attention": "joint"}, "attention"),
    ],
)
def test_impossible_models_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(CoverError, match=message):
        small_model(**settings)


def test_a_clip_of_other_lengths_than_tubelets_is_refused() -> None:
    with pytest.raises(CoverError, match="num_frames 5 is not a multiple of 2"):
        small_model()({"k400": clips(5, 1)})


def test_another_width_has_an_mlp_of_its_own() -> None:
    config = create_model("videomae_giant", depth=1, width=32, num_heads=2, image_size=28, heads={}).config
    assert "width 32" in config.describe() and vars(config)["mlp_width"] == 128
