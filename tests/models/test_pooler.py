"""Attentive heads: the pooler equals that of transformers' V-JEPA 2, and every family can have it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from examples.second_family import ToyFamily
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import VJEPA2Config
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2AttentivePooler

from cover.config import families
from cover.core.batch import ClipBatch, MixedBatch
from cover.errors import CoverError
from cover.models.classifier import VideoClassifier, read_model, save_model
from cover.models.config import PoolerConfig
from cover.models.create import create_model
from cover.models.export.formats import export_for
from cover.models.export.graph import fit
from cover.models.export.onnx_torch import export_onnx
from cover.models.info import describe, info_table
from cover.models.linear import freeze_weights
from cover.models.loading import load_weights
from cover.models.packing import PackedClips, pack
from cover.models.pooler import AttentivePooler, multiply_adds, token_backbone

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
FAMILIES: dict[str, dict[str, Any]] = {
    "timesformer_tiny": {"depth": 2, "width": 24, "num_heads": 2, "num_frames": 4},
    "videomae_small": {"depth": 2, "width": 24, "num_heads": 2, "num_frames": 4},
    "video_swin_tiny": {"width": 12, "depths": (1, 1), "num_heads": (1, 2), "window": (2, 3, 3), "num_frames": 4},
    "mvitv1_base": {"width": 12, "depths": (1, 1), "num_frames": 4},
    "mvitv2_small": {"width": 12, "depths": (1, 1), "num_frames": 4},
}
HEADS = {"k400": 5, "imagenet": 3}


def oracle_names(name: str) -> list[str]:
    """Transformers' names of a tensor of ours. Parts are in the order that ours joins them."""
    kind = name.rpartition(".")[2]
    for ours, theirs in {
        "attn.qkv": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
        "attn.proj": "self_attn.out_proj",
        "xattn.q": "cross_attn.q_proj",
        "xattn.kv": "cross_attn.k_proj cross_attn.v_proj",
        "norm1": "layer_norm1",
        "norm2": "layer_norm2",
    }.items():
        if f".{ours}." in name:
            prefix = name.partition(ours)[0]
            prefix = prefix.replace("cross_attention_block", "cross_attention_layer")
            prefix = prefix.replace("blocks.", "self_attention_layers.")
            return [f"{prefix}{part}.{kind}" for part in theirs.split()]
    name = name.replace("cross_attention_block", "cross_attention_layer")
    return [name.replace("blocks.", "self_attention_layers.")]


def create_pooler(depth: int, dtype: torch.dtype) -> tuple[AttentivePooler, VJEPA2AttentivePooler]:
    """A pooler and transformers' with the same weights, in which every parameter matters."""
    config = VJEPA2Config(hidden_size=24, num_attention_heads=3, num_pooler_layers=depth, layer_norm_eps=1e-5)
    config._attn_implementation = "sdpa"
    oracle, pooler = VJEPA2AttentivePooler(config), AttentivePooler(24, PoolerConfig(depth=depth, num_heads=3))
    for parameter in oracle.parameters():
        nn.init.normal_(parameter, std=0.2)
    theirs = oracle.state_dict()
    pooler.load_state_dict({n: torch.cat([theirs[t] for t in oracle_names(n)]) for n in pooler.state_dict()})
    return pooler.to(dtype), oracle.to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
@pytest.mark.parametrize("depth", [0, 2])
def test_features_and_gradients_of_packed_clips_equal_the_published_pooler(depth: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    pooler, oracle = create_pooler(depth, dtype)
    tokens = [torch.randn(clips, length, 24, dtype=dtype, requires_grad=True) for clips, length in ((2, 9), (3, 4))]
    same = [part.detach().clone().requires_grad_() for part in tokens]
    ours, theirs = pooler(tokens), torch.cat([oracle(part) for part in same])
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE[dtype], rtol=0)
    (ours * ours.detach().cos()).sum().backward()
    (theirs * theirs.detach().cos()).sum().backward()
    gradients = {name: parameter.grad for name, parameter in oracle.named_parameters()}
    for name, parameter in pooler.named_parameters():
        expected = torch.cat([gradients[other] for other in oracle_names(name)])  # type: ignore[misc]
        torch.testing.assert_close(parameter.grad, expected, atol=TOLERANCE[dtype], rtol=0)
    for part, other in zip(tokens, same, strict=True):
        torch.testing.assert_close(part.grad, other.grad, atol=TOLERANCE[dtype], rtol=0)


def test_its_cost_is_what_the_published_pooler_multiplies() -> None:
    _, oracle = create_pooler(2, torch.float32)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        oracle(torch.randn(1, 9, 24))
    assert counter.get_total_flops() / 2 == multiply_adds(24, 9, 2)


def attentive(variant: str, **settings: Any) -> VideoClassifier:
    """A small model in which every parameter matters."""
    values = {"image_size": 32, "heads": HEADS, "head": "attentive", "pooler_depth": 1, "pooler_heads": 3}
    torch.manual_seed(0)
    model = create_model(variant, **FAMILIES[variant] | values | settings)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def frames_of(num_frames: int, num_clips: int) -> Tensor:
    return torch.randint(256, (num_frames, num_clips, 3, 32, 32), dtype=torch.uint8)


@pytest.mark.parametrize("variant", FAMILIES)
def test_every_family_pools_packed_clips_as_each_by_itself(variant: str) -> None:
    model = attentive(variant).double()
    batch = {"k400": frames_of(4, 2), "imagenet": frames_of(1, 3)}
    together = model(batch)
    for name, frames in batch.items():
        for clip in range(frames.shape[1]):
            alone = model({name: frames[:, clip : clip + 1]})[name][0]
            torch.testing.assert_close(together[name][clip], alone, atol=1e-10, rtol=0)


@pytest.mark.parametrize("variant", FAMILIES)
def test_every_parameter_gets_a_gradient_from_images_alone(variant: str) -> None:
    model, seeds = attentive(variant).train(), torch.zeros(2, dtype=torch.int64)
    images = ClipBatch("imagenet", frames_of(1, 2), seeds, ("a", "b"), seeds)
    logits = model(MixedBatch({"imagenet": images}, {"k400": 3, "imagenet": 2}, step=0))
    sum(values.square().sum() for values in logits.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("variant", FAMILIES)
def test_a_model_counts_the_tokens_that_it_pools(variant: str) -> None:
    model, linear = attentive(variant), attentive(variant, head="linear")
    backbone = token_backbone(model.backbone)
    for num_frames in (4, 1):
        frames = pack({"": frames_of(num_frames, 2)})[0]
        (tokens_BLD,) = backbone.tokens(PackedClips(**vars(frames), mean_C11=model.mean, std_C11=model.std))
        assert tokens_BLD.shape == (2, backbone.num_tokens(num_frames, 32, 32), backbone.width)
        extra = model.multiply_adds(num_frames, HEADS) - linear.multiply_adds(num_frames, HEADS)
        assert extra == multiply_adds(backbone.width, tokens_BLD.shape[1], 1)
    assert model.activation_bytes(4, half=True) > linear.activation_bytes(4, half=True)


@pytest.mark.parametrize("variant", FAMILIES)
def test_it_is_saved_and_loaded_and_described(variant: str, tmp_path: Path) -> None:
    model = attentive(variant)
    save_model(model, tmp_path)
    frames = frames_of(4, 2)
    expected = model.predict(frames)["k400"]
    loaded = read_model(tmp_path)
    assert loaded.config == model.config and torch.equal(loaded.predict(frames)["k400"], expected)
    freeze_weights(loaded)
    torch.testing.assert_close(loaded.predict(frames)["k400"], expected)
    other = attentive(variant)
    nn.init.zeros_(other.pooler.query_tokens)  # type: ignore[union-attr]
    report = load_weights(other, tmp_path)
    assert not report.fresh and not report.unused and torch.equal(other.predict(frames)["k400"], expected)
    rows = [str(cell) for column in info_table(describe(tmp_path)).columns for cell in column.cells]
    assert "attentive, 1 block of self-attention, then a learned query, 3 heads" in rows


def test_a_model_with_linear_heads_is_saved_as_before(tmp_path: Path) -> None:
    save_model(attentive("videomae_small", head="linear"), tmp_path)
    assert "pooler" not in json.loads((tmp_path / "config.json").read_text())


def test_heads_of_another_kind_start_fresh(tmp_path: Path) -> None:
    linear, pooled = attentive("videomae_small", head="linear"), attentive("videomae_small")
    save_model(linear, tmp_path / "linear")
    save_model(pooled, tmp_path / "attentive")
    fresh = load_weights(attentive("videomae_small"), tmp_path / "linear").fresh
    assert {name.partition(".")[0] for name in fresh} == {"pooler", "heads"}
    report = load_weights(attentive("videomae_small", head="linear"), tmp_path / "attentive")
    assert all(name.startswith("heads.") for name in report.fresh)
    assert {name.partition(".")[0] for name in report.unused} == {"pooler", "heads"}
    fresh = load_weights(attentive("videomae_small"), tmp_path / "attentive", fresh_heads=True).fresh
    assert {name.partition(".")[0] for name in fresh} == {"pooler", "heads"}
    with pytest.raises(CoverError, match=r"has pooler_depth 1, this model has 2; set model.pooler_depth = 1"):
        load_weights(attentive("videomae_small", pooler_depth=2), tmp_path / "attentive")


def test_weights_bring_the_epsilon_of_the_pooler(tmp_path: Path) -> None:
    model = attentive("videomae_small")
    save_model(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["pooler"]["eps"] = 0.5
    (tmp_path / "config.json").write_text(json.dumps(config))
    expected = read_model(tmp_path).predict(frames := frames_of(4, 1))["k400"]
    load_weights(model, tmp_path)
    assert model.config.pooler and model.config.pooler.eps == 0.5
    assert torch.equal(model.predict(frames)["k400"], expected)


@pytest.mark.parametrize(
    ("pooler", "message"),
    [
        ({"depth": -1}, "pooler_depth is -1; it must be a whole number from 0"),
        ({"num_heads": 0}, "pooler_heads is 0; it must be a whole number from 1"),
        ({"num_heads": 10**9}, "pooler_heads is 1000000000"),
        ({"eps": 0}, "pooler eps is 0"),
        ({"layers": 1}, "layers"),
        ([1], "damaged"),
    ],
)
def test_a_damaged_configuration_is_refused(pooler: object, message: str, tmp_path: Path) -> None:
    save_model(attentive("videomae_small"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"pooler": pooler}))
    with pytest.raises(CoverError, match=message):
        read_model(tmp_path)


def test_what_does_not_fit_is_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "_registered", {**families._registered, "toy": ToyFamily()})
    with pytest.raises(CoverError, match="pooler_heads 16 do not divide the 24 features of a token; use 12"):
        attentive("videomae_small", pooler_heads=16)
    with pytest.raises(CoverError, match='models of the family toy offer only one feature; use head = "linear"'):
        create_model("toy", heads={"k400": 5}, head="attentive")
    with pytest.raises(
        CoverError,
        match="transformers has no videomae with an attentive head; export with --to safetensors, onnx or torch-export",
    ):
        export_for("transformers", attentive("videomae_small"), tmp_path / "out", "k400")
    with pytest.raises(CoverError, match="models with an attentive head cannot be explained"):
        attentive("timesformer_tiny").attribute(frames_of(4, 1)[:, 0], "k400", 0)


def test_layers_that_write_to_the_stream_start_smaller_the_deeper_they_are() -> None:
    model = create_model("videomae_small", depth=1, heads=HEADS, head="attentive", pooler_depth=3)
    assert model.pooler is not None
    stds = [block.mlp.fc2.weight.std().item() for block in model.pooler.blocks]  # type: ignore[operator,union-attr]
    assert stds == pytest.approx([0.02 / (2 * number) ** 0.5 for number in (1, 2, 3)], rel=0.05)
    assert model.pooler.query_tokens.std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("variant", FAMILIES)
def test_it_is_exported_as_onnx(variant: str, tmp_path: Path) -> None:
    export_onnx(fit(attentive(variant)), tmp_path / "onnx")  # which compares the logits
