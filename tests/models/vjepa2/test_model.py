from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.models.vjepa2.test_exactness import with_weights_of
from tests.models.vjepa2.vjepas import clips, create_oracle, oracle_logits, small_model

from cover.core.batch import ClipBatch, MixedBatch
from cover.errors import CoverError
from cover.models.config import PoolerConfig, class_names
from cover.models.create import create_model, num_parameters
from cover.models.info import multiply_adds
from cover.models.linear import freeze_weights
from cover.models.vjepa2.config import VJEPA2Config, variant_config
from cover.models.vjepa2.rotary import places, rotary_angles

BOTH = pytest.mark.parametrize("variant", ["vjepa2_large", "vjepa2_1_large"])
WEIGHT = torch.zeros(1)


@pytest.mark.parametrize(
    ("variant", "parameters", "giga"),
    [
        ("vjepa2_large", 303_885_312, 827.9),
        ("vjepa2_huge", 631_648_000, 1_636.1),
        ("vjepa2_giant", 1_012_173_952, 2_543.8),
        ("vjepa2_giant_384", 1_012_173_952, 7_052.4),
        ("vjepa2_1_base", 86_828_544, 788.2),
    ],
)
def test_sizes_and_costs_of_the_encoder(variant: str, parameters: int, giga: float) -> None:
    config = variant_config(variant, {})
    assert num_parameters(config) == parameters
    assert round(multiply_adds(config) / 1e9, 1) == giga


def test_size_and_cost_with_the_attentive_classifier() -> None:
    """transformers counts 22,086,016 parameters more: those of the predictor, which classification does not use."""
    config = replace(variant_config("vjepa2_large", {}), heads={"ssv2": class_names(174)}, pooler=PoolerConfig())
    assert num_parameters(config) == 375_485_998 - 22_086_016
    assert round(multiply_adds(config) / 1e9, 1) == 935.2


def test_an_image_is_a_still_clip_of_one_tubelet_at_less_cost() -> None:
    model, image = small_model(), clips(1, 3)
    still = image.expand(2, -1, -1, -1, -1)
    torch.testing.assert_close(model({"k400": image}), model({"k400": still}), atol=1e-5, rtol=1e-5)
    cost, still_cost = (model.backbone.multiply_adds(num_frames, 32, 32) for num_frames in (1, 2))
    assert still_cost - cost == 16 * 3 * 8 * 8 * 48  # half of the embedding, the rest is equal


def test_version_2_1_has_an_embedding_for_images() -> None:
    model, image = small_model("vjepa2_1_large"), clips(1, 3)
    still = image.expand(2, -1, -1, -1, -1)
    before, video = model({"k400": image})["k400"], model({"k400": still})["k400"]
    assert (before - video).abs().max() > 1e-3
    tensors = model.state_dict()
    tensors["patch_embed_img.proj.weight"] = tensors["patch_embed.proj.weight"].sum(2, keepdim=True)
    tensors["patch_embed_img.proj.bias"] = tensors["patch_embed.proj.bias"]
    tensors["img_mod_embed"] = tensors["video_mod_embed"]
    model.load_state_dict(tensors)
    torch.testing.assert_close(model({"k400": image})["k400"], video, atol=1e-5, rtol=1e-5)


@BOTH
def test_the_order_of_frames_matters_within_and_between_tubelets(variant: str) -> None:
    torch.manual_seed(0)
    model, frames = small_model(variant).double(), clips(4, 2, dtype=torch.float64)
    logits = model({"k400": frames})["k400"]
    for order in ([3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]):
        assert (model({"k400": frames[order]})["k400"] - logits).abs().max() > 1e-5


def test_attention_of_version_2_1_depends_on_distances_and_that_of_version_2_does_not() -> None:
    """Turned by a rotation, q · k is the same wherever the two are. In version 2 the map is no rotation."""
    torch.manual_seed(0)
    query, key = torch.randn(2, 24, dtype=torch.float64)

    def score(version: Any, first: int, second: int) -> float:
        turned = []
        for vector, place in ((query, first), (key, second)):
            still, there = torch.zeros(1, dtype=torch.float64), torch.tensor([float(place)], dtype=torch.float64)
            angle = rotary_angles(version, 24, there, still, still)[0]
            a, b = vector.unflatten(0, (-1, 2)).unbind(-1)
            cos, sin = angle.cos().unbind(-1), angle.sin().unbind(-1)
            turned.append(torch.stack([a * cos[0] - b * sin[0], b * cos[1] + a * sin[1]]))
        return float((turned[0] * turned[1]).sum())

    assert score("2.1", 1, 3) == pytest.approx(score("2.1", 5, 7), abs=1e-12)
    assert abs(score("2", 1, 3) - score("2", 5, 7)) > 1e-3


def test_features_that_are_left_over_do_not_turn() -> None:
    place = torch.ones(1, dtype=torch.float64)
    angles = rotary_angles("2", 16, place, place, place)[0].flatten()
    assert angles.tolist() == pytest.approx([1, 0.01, 1, 0.01] * 3 + [0] * 4)
    assert rotary_angles("2.1", 16, place, place, place)[0].flatten().tolist() == pytest.approx(
        [1, 1, 0.01, 0.01] * 3 + [0] * 4
    )


def test_places_of_version_2_1_have_the_same_ends_in_frames_of_any_size() -> None:
    config = variant_config("vjepa2_1_base", {})
    for side in (16, 24):
        time, row, column = places(config, 3, (side, side), WEIGHT)
        assert (time.max(), row.max(), column.max()) == (2, 15, 15)
        assert len(time) == 3 * side**2
    _, row, _ = places(replace(config, version="2"), 3, (24, 24), WEIGHT)
    assert row.max() == 23


def test_positions_in_other_sizes_than_the_weights_are_those_of_a_model_of_that_size() -> None:
    """In transformers they are those of `crop_size`, which are wrong elsewhere: its own two models differ."""
    torch.manual_seed(0)
    of_32, of_48 = create_oracle(image_size=32).double(), create_oracle(image_size=48).double()
    of_48.load_state_dict(of_32.state_dict())
    frames = clips(4, 1, 48, torch.float64)
    wrong, right = oracle_logits(of_32, frames), oracle_logits(of_48, frames)
    assert (wrong - right).abs().max() > 1e-5
    model = with_weights_of(small_model().double(), of_32)
    torch.testing.assert_close(model({"k400": frames})["k400"], right, atol=1e-10, rtol=0)


@BOTH
def test_uint8_frames_are_normalised(variant: str) -> None:
    model = small_model(variant)
    for num_frames in (1, 4):
        frames = torch.randint(256, (num_frames, 2, 3, 32, 32), dtype=torch.uint8)
        normalised = (frames.float() / 255 - model.mean) / model.std
        torch.testing.assert_close(model({"k400": frames}), model({"k400": normalised}), atol=1e-4, rtol=1e-5)


@BOTH
def test_clips_and_drop_path_do_not_depend_on_their_company(variant: str) -> None:
    torch.manual_seed(0)
    model = small_model(variant, drop_path_rate=0.7, depth=4, heads={"k400": 5, "imagenet": 5}).double().train()
    seeds, zeros = torch.tensor([5, 2**62, 7, 8, 9]), torch.zeros(5, dtype=torch.int64)

    def batch(name: str, num_frames: int, rows: slice) -> ClipBatch:
        torch.manual_seed(num_frames)
        frames = torch.randint(256, (num_frames, 5, 3, 32, 32), dtype=torch.uint8)
        return ClipBatch(name, frames[:, rows], zeros[rows], ("a",) * len(seeds[rows]), seeds[rows])

    every = slice(None)
    together = model({"k400": batch("k400", 4, every), "imagenet": batch("imagenet", 1, every)})
    for row in range(5):
        one = slice(row, row + 1)
        for name, num_frames in (("k400", 4), ("imagenet", 1)):
            alone = model({name: batch(name, num_frames, one)})[name]
            torch.testing.assert_close(together[name][one], alone, atol=1e-8, rtol=0)
    assert not torch.allclose(together["k400"], model.eval()({"k400": batch("k400", 4, every)})["k400"], atol=1e-3)


@BOTH
@pytest.mark.parametrize("num_frames", [1, 4])
def test_every_parameter_gets_a_gradient_from_one_kind_of_media(variant: str, num_frames: int) -> None:
    model, seeds = small_model(variant, heads={"k400": 5, "imagenet": 7}).train(), torch.zeros(2, dtype=torch.int64)
    frames = torch.zeros(num_frames, 2, 3, 32, 32, dtype=torch.uint8)
    only = ClipBatch("imagenet", frames, seeds, ("a", "b"), seeds)
    logits = model(MixedBatch({"imagenet": only}, {"k400": 3, "imagenet": 2}, step=0))
    sum(values.sum() for values in logits.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_frozen_weights_give_the_same_features() -> None:
    model, frames = small_model(), clips(4, 2)
    expected = model({"k400": frames})["k400"]
    freeze_weights(model)
    for _ in range(2):
        torch.testing.assert_close(model({"k400": frames})["k400"], expected)


def test_layers_are_numbered_from_the_embedding_to_the_head() -> None:
    model = small_model("vjepa2_1_large")
    names = {
        "patch_embed.proj.weight": 0, "patch_embed_img.proj.bias": 0, "video_mod_embed": 0,
        "blocks.0.attn.qkv.bias": 1, "blocks.1.mlp.fc2.weight": 2, "norm.bias": 3,
    }  # fmt: skip
    assert {name: model.layer_of(f"backbone.{name}") for name in names} == names
    assert model.layer_of("heads.k400.weight") == model.layer_of("pooler.query_tokens") == model.num_layers == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_frames": 3}, "num_frames 3 is not a multiple of 2, the frames of a V-JEPA 2's tubelet; use 2 or 4"),
        ({"image_size": 100}, "image_size 100 is not a multiple of patch_size 8; use 96"),
        ({"num_heads": 5}, "width 48 is not a multiple of the 5 attention heads; change one of them"),
        ({"num_heads": 16}, "give 3 features a head, and rotary positions turn pairs of them; change one of them"),
        ({"attention": "joint"}, "attention"),
    ],
)
def test_impossible_models_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CoverError, match=message):
        small_model(**settings)
    with pytest.raises(CoverError, match=r"version is '3'; it must be \"2\" or \"2\.1\""):
        VJEPA2Config(version="3", depth=1, width=4, num_heads=1, mlp_width=1)  # type: ignore[arg-type]


def test_a_clip_of_other_lengths_than_tubelets_is_refused() -> None:
    with pytest.raises(CoverError, match="num_frames 5 is not a multiple of 2"):
        small_model()({"k400": clips(5, 1)})


def test_layers_that_write_to_the_stream_start_smaller_the_deeper_they_are() -> None:
    model = create_model("vjepa2_1_base", depth=3, width=192, num_heads=2, heads={})
    stds = [block.mlp.fc2.weight.std().item() for block in model.backbone.units()]  # type: ignore[union-attr, operator]
    assert stds == pytest.approx([0.02 / (2 * number) ** 0.5 for number in (1, 2, 3)], rel=0.05)
    assert 0 < model.backbone.img_mod_embed.abs().max() < 1e-5  # type: ignore[operator]
