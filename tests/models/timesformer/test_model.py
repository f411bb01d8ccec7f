from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.timesformers import backbone_of
from torch import Tensor

from cover.core.batch import ClipBatch, MixedBatch
from cover.errors import CoverError
from cover.models.classifier import VideoClassifier, read_model, save_model
from cover.models.create import create_model, num_parameters
from cover.models.kernels.products import Input
from cover.models.kernels.residual import Residual, Tokens, plain_add_normalise
from cover.models.linear import Linear, freeze_weights
from cover.models.loading import load_weights
from cover.models.packing import Group, pack, unpack
from cover.models.timesformer.attention import TemporalAttention
from cover.models.timesformer.block import Block
from cover.models.timesformer.config import variant_config

SMALL: dict[str, Any] = {"width": 48, "num_heads": 3, "depth": 3}


def small_model(**settings: Any) -> VideoClassifier:
    """A model in which every parameter matters."""
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"num_frames": 4, "image_size": 32, "heads": {"k400": 5, "ssv2": 4, "imagenet": 7}}
    model = create_model("timesformer_tiny", **SMALL | defaults | settings)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def clips(num_frames: int, num_clips: int, size: int = 32) -> Tensor:
    return torch.randn(num_frames, num_clips, 3, size, size)


@pytest.mark.parametrize(
    ("variant", "settings", "expected"),
    [
        ("timesformer_base", {}, 121_566_352),
        ("timesformer_base", {"attention": "joint"}, 86_112_400),
        ("timesformer_base", {"attention": "space_only"}, 86_106_256),
        ("timesformer_large", {"num_frames": 16, "image_size_px": 448}, 430_331_280),
    ],
)
def test_sizes_are_the_published_ones(variant: str, settings: dict[str, object], expected: int) -> None:
    assert num_parameters(variant_config(variant, {"k400": 400}, **settings)) == expected


def test_packing_keeps_clips_of_equal_length_together() -> None:
    packed, rows = pack({"imagenet": clips(1, 3), "k400": clips(4, 2), "ssv2": clips(4, 1)})
    assert packed.groups == (Group(4, 3), Group(1, 3))
    assert rows == {"k400": slice(0, 2), "ssv2": slice(2, 3), "imagenet": slice(3, 6)}


def test_temporal_attention_over_one_frame_is_softmax_over_one_key() -> None:
    torch.manual_seed(0)
    attention, norm, fc = TemporalAttention(48, 3), torch.nn.LayerNorm(48), Linear(48, 48)
    torch.nn.init.normal_(norm.weight)
    normed_FND = torch.randn(2, 5, 48)
    qkv = attention.qkv(normed_FND * norm.weight + norm.bias).unflatten(-1, (3, 3, 16))
    query, key, value = qkv.unbind(2)
    scores = (query * key).sum(-1, keepdim=True) / 16**0.5
    expected = fc(attention.proj((scores[..., None].softmax(-1)[..., 0] * value).flatten(2)))
    values, bias = attention(Input(normed_FND, normed_FND), norm, fc, (Group(1, 2),))
    torch.testing.assert_close(values + bias, expected)


def test_images_skip_temporal_attention_when_asked() -> None:
    model, without = small_model(image_temporal="skip"), small_model(attention="space_only")
    without.load_state_dict(model.state_dict(), strict=False)
    model.get_parameter("backbone.time_embed").data.zero_()  # a space-only model has none
    batch = {"imagenet": clips(1, 2)}
    torch.testing.assert_close(model(batch)["imagenet"], without(batch)["imagenet"], atol=1e-5, rtol=0)


def test_images_have_a_linear_layer_of_their_own_that_starts_as_their_temporal_attention(tmp_path: Path) -> None:
    """UniDual's pointwise branch. Mixed batches, and models that start from weights without such a layer."""
    attend = small_model()
    save_model(attend, tmp_path)
    own = small_model(image_temporal="linear", temporal_init="zero")
    assert "blocks.1.image_fc.weight" in load_weights(own, tmp_path).fresh
    batch = {"imagenet": clips(1, 2), "k400": clips(4, 2)}
    expected, found = attend(batch), own(batch)
    for name in batch:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=0)
    for videos, images in ((True, False), (False, True)):
        own.zero_grad()
        own({"k400" if videos else "imagenet": clips(4 if videos else 1, 2)})[
            "k400" if videos else "imagenet"
        ].sum().backward()
        temporal, image = (
            own.get_parameter(f"backbone.blocks.1.{name}.weight").grad for name in ("temporal_fc", "image_fc")
        )
        assert temporal is not None and image is not None  # as several processes need
        assert (bool(temporal.any()), bool(image.any())) == (videos, images)


@pytest.mark.parametrize("attention", ["divided", "joint"])
def test_without_a_time_embedding_reversal_changes_nothing(attention: str) -> None:
    """Attention and means know no order of their tokens, so order can enter through the time embedding only."""
    model, frames = small_model(attention=attention), clips(4, 2)
    model.get_parameter("backbone.time_embed").data.mul_(10)
    assert not torch.allclose(model({"k400": frames})["k400"], model({"k400": frames.flip(0)})["k400"], atol=1e-3)
    model.get_parameter("backbone.time_embed").data.zero_()
    torch.testing.assert_close(
        model({"k400": frames})["k400"], model({"k400": frames.flip(0)})["k400"], atol=1e-5, rtol=0
    )


def test_the_class_token_has_a_place_but_no_time() -> None:
    """It stands for the whole clip, and no single time is that of a clip."""
    model, seen = small_model(), list[Tensor]()
    first, *_ = model.backbone.units()
    first.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].exact[:, 0]))
    model({"k400": clips(4, 2)})
    backbone = backbone_of(model)
    expected = backbone.cls_token[0] + backbone.pos_embed[0, :1]
    torch.testing.assert_close(seen[0], expected.expand(8, -1), atol=0, rtol=0)


def test_the_class_token_takes_no_part_in_temporal_attention() -> None:
    """Its copies are one token, which has no other frames to look at."""
    model, frames, seen = small_model(), clips(4, 2), list[Tensor]()
    attention = model.get_submodule("backbone.blocks.0.temporal_attn")
    attention.register_forward_hook(lambda _module, _inputs, out: seen.append(out[0][:, 1:]))
    model({"k400": frames})
    model.get_parameter("backbone.cls_token").data.add_(1)
    model({"k400": frames})
    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("attention", ["divided", "joint"])
def test_class_copies_of_a_clip_stay_equal_to_the_bit_with_drop_path(attention: str) -> None:
    """They are one token of the published model; were they to differ, the clip's length would count its votes."""
    model = small_model(drop_path_rate=0.5, attention=attention, num_frames=8).train()
    packed, _ = pack({"k400": clips(8, 3), "ssv2": clips(5, 1), "imagenet": clips(1, 2)})
    seen: list[Tensor] = []

    def see(_module: Block, _inputs: object, out: tuple[Tokens, Residual]) -> None:
        tokens, _ = plain_add_normalise(*out, packed.groups, 1e-6)
        seen.append(tokens.exact[:, 0])

    *blocks, _ = model.backbone.units()
    for block in blocks:
        block.register_forward_hook(see)
    model(packed)
    assert len(seen) == len(blocks)
    for copies_TBD in (group for class_FD in seen for group in unpack(class_FD, packed.groups)):
        assert torch.equal(copies_TBD, copies_TBD[:1].expand_as(copies_TBD))


def test_uint8_frames_are_normalised_and_other_sizes_and_lengths_accepted() -> None:
    model = small_model()
    frames = torch.randint(256, (4, 2, 3, 32, 32), dtype=torch.uint8)
    normalised = (frames.float() / 255 - 0.5) / 0.5
    torch.testing.assert_close(model({"k400": frames})["k400"], model({"k400": normalised})["k400"])
    assert model({"k400": clips(6, 2, size=48)})["k400"].shape == (2, 5)


def test_every_head_answers_a_mixed_batch_and_gets_a_gradient() -> None:
    model = small_model()
    seeds = torch.zeros(2, dtype=torch.int64)
    only_images = ClipBatch("imagenet", torch.zeros(1, 2, 3, 32, 32, dtype=torch.uint8), seeds, ("a", "b"), seeds)
    logits = model(MixedBatch({"imagenet": only_images}, {"k400": 3, "ssv2": 1, "imagenet": 2}, step=0))
    assert {name: tuple(values.shape) for name, values in logits.items()} == {
        "k400": (0, 5),
        "ssv2": (0, 4),
        "imagenet": (2, 7),
    }
    sum(values.sum() for values in logits.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_clip_for_a_head_that_does_not_exist_is_named() -> None:
    with pytest.raises(CoverError, match="no head for dataset 'ucf101'; this model's heads are k400, ssv2, imagenet"):
        small_model()({"ucf101": clips(4, 1)})


@pytest.mark.parametrize("name", ["train", "type", "forward", "keys", "pop", "training", "_modules", "0", "ünï"])
def test_a_dataset_may_be_called_like_an_attribute(name: str, tmp_path: Path) -> None:
    model = small_model(heads={name: 3, "k400": 2}).train().eval()
    assert {f"heads.{name}.weight", f"heads.{name}.bias", "heads.k400.bias"} < model.state_dict().keys()
    save_model(model, tmp_path)
    assert torch.equal(read_model(tmp_path).predict(frames := clips(4, 2))[name], model.predict(frames)[name])
    report = load_weights(small_model(heads={name: 3}), tmp_path)
    assert f"heads.{name}.weight" in report.loaded


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 100}, "image_size 100 is not a multiple of patch_size 16; use 96"),
        ({"num_heads": 5}, "width 48 is not a multiple of the 5 attention heads; change one of them"),
        (
            {"heads": {"k.400": 3}},
            "dataset name 'k.400': a name may have letters, digits, '_' and '-' only; call it 'k_400'",
        ),
    ],
)
def test_impossible_models_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(CoverError, match=message):
        small_model(**settings)


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(CoverError, match="unknown model variant 'huge'; the variants are timesformer_tiny"):
        create_model("huge", heads={"k400": 5})


@pytest.mark.parametrize("attention", ["divided", "joint", "space_only"])
def test_weights_kept_ready_give_the_same_logits(attention: str) -> None:
    model, frames = small_model(attention=attention), clips(4, 2)
    with torch.inference_mode():
        expected = model.predict(frames)
        freeze_weights(model)
        first, second = model.predict(frames), model.predict(frames)
    for name, logits in expected.items():
        assert torch.equal(first[name], logits)
        assert torch.equal(second[name], logits)
