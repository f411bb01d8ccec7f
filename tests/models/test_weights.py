from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cover.errors import CheckpointError
from cover.models.create import create_model
from cover.models.timesformer import TimeSformer
from cover.models.weights import load_exactly, load_model, read_tensors, save_model


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


def test_another_architecture_is_refused_by_the_first_difference(tmp_path: Path) -> None:
    save_model(small(), tmp_path)
    with pytest.raises(CheckpointError, match=r"another architecture: blocks\.2\.attn\.proj\.bias is absent"):
        load_exactly(small(depth=3), read_tensors(tmp_path), tmp_path)


def test_damaged_and_missing_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        load_model(tmp_path)
    save_model(small(), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "cover-timesformer"}')
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not the configuration of a cover model"):
        load_model(tmp_path)
