from __future__ import annotations

import pytest
import torch
from tests.models.vivit.vivits import ATTENTION, clips, small_model

from cover.core.batch import ClipBatch, MixedBatch
from cover.errors import CoverError
from cover.models.create import create_model, num_parameters
from cover.models.info import multiply_adds
from cover.models.linear import freeze_weights
from cover.models.vivit.config import variant_config
from cover.models.vivit.model import ViViT

EACH = pytest.mark.parametrize("attention", ATTENTION)


@pytest.mark.parametrize(
    ("variant", "settings", "parameters", "giga"),
    [
        ("vivit_base", {}, 88_954_000, 451.5),
        ("vivit_large", {}, 307_508_624, 1_436.0),
        ("vivit_large", {"image_size_px": 320}, 310_850_960, 3_957.0),
        ("vivit_base", {"attention": "factorised_encoder"}, 115_062_928, 283.3),
        ("vivit_base", {"attention": "factorised_attention"}, 117_319_312, 371.1),
        ("vivit_base", {"attention": "factorised_heads"}, 88_952_464, 276.2),
    ],
)
def test_sizes_and_costs_are_the_published_ones(
    variant: str, settings: dict[str, str | int], parameters: int, giga: float
) -> None:
    config = variant_config(variant, {"k400": 400}, **settings)
    assert num_parameters(config) == parameters
    assert round(multiply_adds(config) / 1e9, 1) == giga


@EACH
def test_an_image_is_a_still_clip_of_one_tubelet_at_less_cost(attention: str) -> None:
    model, image = small_model(attention=attention), clips(1, 3)
    still = image.expand(2, -1, -1, -1, -1)
    torch.testing.assert_close(model({"k400": image}), model({"k400": still}), atol=1e-5, rtol=1e-5)
    cost, still_cost = (model.backbone.multiply_adds(num_frames, 32, 32) for num_frames in (1, 2))
    assert still_cost - cost == 4 * 3 * 16 * 16 * 24  # half of the embedding, the rest is equal


@EACH
def test_the_order_of_frames_matters_within_and_between_tubelets(attention: str) -> None:
    torch.manual_seed(0)
    model, frames = small_model(attention=attention).double(), clips(4, 2, dtype=torch.float64)
    logits = model({"k400": frames})["k400"]
    for order in ([3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]):
        assert (model({"k400": frames[order]})["k400"] - logits).abs().max() > 1e-5


@EACH
def test_without_positions_in_time_only_the_set_of_tubelets_matters(attention: str) -> None:
    torch.manual_seed(0)
    model, frames = small_model(attention=attention).double(), clips(4, 2, dtype=torch.float64)
    backbone = model.backbone
    assert isinstance(backbone, ViViT)
    with torch.no_grad():
        if attention == "factorised_encoder":
            backbone.temporal_pos_embed[:, 1:] = backbone.temporal_pos_embed[:, 1:2]
        else:
            backbone.pos_embed[:, -4:] = backbone.pos_embed[:, -8:-4]
    logits = model({"k400": frames})["k400"]
    torch.testing.assert_close(model({"k400": frames[[2, 3, 0, 1]]})["k400"], logits)
    assert (model({"k400": frames.flip(0)})["k400"] - logits).abs().max() > 1e-5  # within tubelets it matters


@EACH
def test_other_lengths_and_sizes_are_accepted_and_packed(attention: str) -> None:
    model = small_model(attention=attention, heads={"a": 3, "b": 3, "c": 3})
    batch = {"a": clips(8, 1, 48), "b": clips(2, 2, 48), "c": clips(1, 3, 48)}
    packed = model(batch)
    for head, frames in batch.items():
        torch.testing.assert_close(packed[head], model({head: frames})[head], atol=1e-4, rtol=1e-4)


@EACH
def test_uint8_frames_are_normalised(attention: str) -> None:
    model = small_model(attention=attention)
    for num_frames in (1, 4):
        frames = torch.randint(256, (num_frames, 2, 3, 32, 32), dtype=torch.uint8)
        normalised = (frames.float() / 255 - model.mean) / model.std
        torch.testing.assert_close(model({"k400": frames}), model({"k400": normalised}), atol=1e-4, rtol=1e-4)


@EACH
def test_drop_path_of_a_clip_does_not_depend_on_its_company(attention: str) -> None:
    settings = {"attention": attention, "drop_path_rate": 0.7, "depth": 3}
    model = small_model(**settings, heads={"k400": 5, "imagenet": 5}).train()
    seeds, zeros = torch.tensor([5, 2**62, 7]), torch.zeros(3, dtype=torch.int64)

    def batch(name: str, num_frames: int, rows: slice) -> ClipBatch:
        torch.manual_seed(num_frames)
        frames = torch.randint(256, (num_frames, 3, 3, 32, 32), dtype=torch.uint8)
        return ClipBatch(name, frames[:, rows], zeros[rows], ("a",) * len(seeds[rows]), seeds[rows])

    every = slice(None)
    together = model({"k400": batch("k400", 4, every), "imagenet": batch("imagenet", 1, every)})
    for row in range(3):
        one = slice(row, row + 1)
        for name, num_frames in (("k400", 4), ("imagenet", 1)):
            alone = model({name: batch(name, num_frames, one)})[name]
            torch.testing.assert_close(together[name][one], alone, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together["k400"], model.eval()({"k400": batch("k400", 4, every)})["k400"], atol=1e-3)


@EACH
def test_every_parameter_gets_a_gradient_from_images_alone(attention: str) -> None:
    model, seeds = (
        small_model(attention=attention, heads={"k400": 5, "imagenet": 7}),
        torch.zeros(2, dtype=torch.int64),
    )
    only_images = ClipBatch("imagenet", torch.zeros(1, 2, 3, 32, 32, dtype=torch.uint8), seeds, ("a", "b"), seeds)
    logits = model(MixedBatch({"imagenet": only_images}, {"k400": 3, "imagenet": 2}, step=0))
    sum(values.sum() for values in logits.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@EACH
def test_tokens_for_an_attentive_head_have_gradients_for_every_parameter(attention: str) -> None:
    model = small_model(attention=attention, head="attentive", pooler_heads=2, pooler_depth=1)
    logits = model({"k400": torch.cat([clips(4, 1)] * 2, 1)})["k400"]
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_frozen_weights_give_the_same_features() -> None:
    model, frames = small_model(attention="factorised_attention"), clips(4, 2)
    expected = model({"k400": frames})["k400"]
    freeze_weights(model)
    for _ in range(2):
        torch.testing.assert_close(model({"k400": frames})["k400"], expected)


def test_fresh_attention_over_time_has_no_effect_until_it_learns() -> None:
    torch.manual_seed(0)
    models = {
        init: create_model(
            "vivit_base", attention="factorised_attention", depth=1, width=24, num_heads=2, image_size=32, num_frames=4,
            temporal_init=init, heads={"k400": 5},
        ).eval()
        for init in ("zero", "random")
    }  # fmt: skip
    for init, model in models.items():
        projection = model.state_dict()["blocks.0.temporal_attn.proj.weight"]
        assert bool(projection.any()) == (init == "random")
        kernel = model.state_dict()["patch_embed.proj.weight"]
        assert not kernel[:, :, 0].any() and kernel[:, :, 1].any()


def test_layers_are_numbered_from_the_embedding_to_the_head() -> None:
    model = small_model(attention="factorised_encoder", temporal_depth=3)
    names = {
        "patch_embed.proj.weight": 0, "cls_token": 0, "blocks.1.mlp.fc2.weight": 2, "norm.bias": 2,
        "temporal_cls_token": 3, "temporal_blocks.0.norm1.bias": 3, "temporal_blocks.2.norm1.bias": 5,
        "temporal_norm.bias": 6,
    }  # fmt: skip
    assert {name: model.layer_of(f"backbone.{name}") for name in names} == names
    assert model.layer_of("heads.k400.weight") == model.num_layers == 6
    assert small_model().layer_of("backbone.norm.bias") == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_frames": 3}, "num_frames 3 is not a multiple of 2, the frames of a ViViT's tubelet; use 2 or 4"),
        ({"image_size": 100}, "image_size 100 is not a multiple of patch_size 16; use 96"),
        ({"temporal_depth": 3}, "temporal_depth is 3, but joint has no temporal blocks; remove it"),
        ({"attention": "divided"}, "attention"),
        ({"attention": "factorised_heads", "num_heads": 3}, "num_heads 3 is odd"),
    ],
)
def test_impossible_models_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(CoverError, match=message):
        small_model(**settings)
