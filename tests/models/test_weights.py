from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cover.errors import CheckpointError
from cover.models.create import create_model
from cover.models.timesformer import TimeSformer
from cover.models.weights import init_from, load_exactly, load_model, read_tensors, save_model


def small(**settings: object) -> TimeSformer:
    defaults = {"num_frames": 4, "image_size": 32, "depth": 2, "width": 48, "heads": {"k400": ["run", "jump"]}}
    return create_model("timesformer_tiny", **defaults | settings)


def test_a_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    model = small().eval()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    frames = torch.randint(256, (4, 2, 3, 32, 32), dtype=torch.uint8)
    assert loaded.config == model.config
    assert torch.equal(loaded({"k400": frames})["k400"], model({"k400": frames})["k400"])


def test_an_image_model_seeds_temporal_attention(tmp_path: Path) -> None:
    source = small(attention="space_only", image_size=64, heads={"imagenet": 3})
    save_model(source, tmp_path)
    model = small(num_frames=8)
    report = init_from(model, tmp_path, "zero")
    for name in ("qkv.weight", "qkv.bias", "proj.weight", "proj.bias"):
        copied = model.get_parameter(f"blocks.1.temporal_attn.{name}")
        assert torch.equal(copied, source.get_parameter(f"blocks.1.attn.{name}"))
    assert not model.get_parameter("blocks.1.temporal_fc.weight").any()
    assert report.resized == ["pos_embed"]
    assert set(report.fresh) >= {"time_embed", "heads.k400.weight", "heads.k400.bias"}
    assert report.unused == ["heads.imagenet.bias", "heads.imagenet.weight"]


def test_a_random_temporal_start_keeps_its_own_attention(tmp_path: Path) -> None:
    save_model(small(attention="space_only"), tmp_path)
    model = small(temporal_init="random")
    before = model.get_parameter("blocks.0.temporal_attn.qkv.weight").clone()
    init_from(model, tmp_path, "random")
    assert torch.equal(model.get_parameter("blocks.0.temporal_attn.qkv.weight"), before)
    assert model.time_embed.any()


def test_heads_are_taken_only_with_the_same_classes(tmp_path: Path) -> None:
    source = small(heads={"k400": ["run", "jump"], "ssv2": ["push", "pull"]})
    save_model(source, tmp_path)
    model = small(heads={"k400": ["run", "jump"], "ssv2": ["pull", "push"]})
    report = init_from(model, tmp_path, "zero")
    assert "heads.k400.weight" in report.loaded
    assert "heads.ssv2.weight" in report.fresh


def test_another_architecture_is_refused_by_the_first_difference(tmp_path: Path) -> None:
    save_model(small(), tmp_path)
    with pytest.raises(CheckpointError, match=r"another architecture: blocks\.2\.attn\.proj\.bias is absent"):
        load_exactly(small(depth=3), read_tensors(tmp_path), tmp_path)
    with pytest.raises(CheckpointError, match=r"has width 48, this model has 192; make them equal"):
        init_from(small(width=192), tmp_path, "zero")


def test_damaged_and_missing_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        load_model(tmp_path)
    save_model(small(), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not the configuration of a cover model"):
        load_model(tmp_path)
