from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cover.errors import CheckpointError
from cover.models.classifier import VideoClassifier, read_model, save_model
from cover.models.create import create_model
from cover.models.weights import load_exactly, read_tensors


def small(**settings: Any) -> VideoClassifier:
    defaults: dict[str, Any] = {
        "num_frames": 4,
        "image_size": 32,
        "depth": 2,
        "width": 48,
        "heads": {"k400": ["run", "jump"]},
    }
    return create_model("timesformer_tiny", **defaults | settings)


def test_a_saved_model_comes_back_the_same(tmp_path: Path) -> None:
    model = small().eval()
    save_model(model, tmp_path)
    loaded = read_model(tmp_path)
    frames = torch.randint(256, (4, 2, 3, 32, 32), dtype=torch.uint8)
    assert loaded.config == model.config
    assert torch.equal(loaded({"k400": frames})["k400"], model({"k400": frames})["k400"])


def test_another_architecture_is_refused_by_the_first_difference(tmp_path: Path) -> None:
    save_model(small(), tmp_path)
    with pytest.raises(CheckpointError, match=r"another architecture: blocks\.2\.attn\.proj\.bias is absent"):
        load_exactly(small(depth=3), read_tensors(tmp_path), tmp_path)


def test_damaged_and_missing_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        read_model(tmp_path)
    save_model(small(), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_model(tmp_path)
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read \(no such file\)"):
        read_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "cover-timesformer"}')
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        read_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not the configuration of a cover model"):
        read_model(tmp_path)


HOSTILE = [
    ("depth", 0, "depth is 0; it must be a whole number from 1 to 1,024"),
    ("depth", -1, "depth is -1; it must be a whole number"),
    ("depth", 10**9, "depth is 1000000000; it must be a whole number"),
    ("depth", 2.5, "depth is 2.5; it must be a whole number"),
    ("depth", True, "depth is True; it must be a whole number"),
    ("depth", "2", "depth is '2'; it must be a whole number"),
    ("depth", None, "depth is None; it must be a whole number"),
    ("width", 10**30, "width is 1000000000000000000000000000000; it must be"),
    ("num_heads", 7, "width 48 is not a multiple of the 7 attention heads"),
    ("num_heads", 0, "num_heads is 0; it must be a whole number"),
    ("num_frames", [4], r"num_frames is \[4\]; it must be a whole number"),
    ("image_size_px", 33, "image_size 33 is not a multiple of patch_size 16; use 32"),
    ("patch_size_px", 0, "patch_size_px is 0; it must be a whole number"),
    ("attention", "all", "attention is 'all'; use divided or joint or space_only"),
    ("attention", ["divided"], "attention is .*; use divided"),
    ("image_temporal", 1, "image_temporal is 1; use attend or skip or linear"),
    ("drop_path_rate", float("nan"), "drop_path_rate is nan; it must be a number from 0 to 1"),
    ("layer_norm_eps", 0, "layer_norm_eps is 0; it must be a number from 1e-30 to 1"),
    ("std", [0, 0, 0], r"std is \(0, 0, 0\); it must be three numbers from 1e-06 to 1e\+06: red, green, blue"),
    ("std", [0.5, 0.5], "std is .*; it must be three numbers"),
    ("mean", [float("inf"), 0, 0], "mean is .*; it must be three numbers"),
    ("mean", [float("nan"), 0, 0], "mean is .*; it must be three numbers"),
    ("mean", "0.5", "mean is .*; it must be three numbers"),
    ("mean", 0.5, "mean is 0.5; it must be three numbers"),
    ("heads", {"k400": []}, r"the classes of head k400 are \(\); they must be one or more names"),
    ("heads", {"k400": [1, 2]}, "the classes of head 'k400' are not a list of names"),
    ("heads", {"k400": "ab"}, "the classes of head 'k400' are not a list of names"),
    ("heads", {"k400": [["a"], ["b"]]}, "the classes of head 'k400' are not a list"),
    ("heads", {"../x": ["a"]}, "dataset name '../x': a name may have letters, digits, '_' and '-' only; call it 'x'"),
    ("heads", {"x" * 10**6: ["a"]}, "dataset name 'xxx.*xxx': a name must be text of at most 100 bytes; rename it"),
    ("heads", ["a"], r"config\.json is damaged \("),
    ("colour", 3, "unexpected keyword argument 'colour'"),
]


@pytest.mark.parametrize(
    ("key", "value", "message"), HOSTILE, ids=[f"{key}={value!r:.20}" for key, value, _ in HOSTILE]
)
def test_a_configuration_with_impossible_values_is_one_line(key: str, value: Any, message: str, tmp_path: Path) -> None:
    save_model(small(), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {key: value}))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_model(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "content", ["[" * 10**5, '"cover"', "\xff", '{"model_type": "cover-timesformer", "a": "\\ud800"}']
)
def test_a_configuration_that_is_no_json_object_is_one_line(content: str, tmp_path: Path) -> None:
    save_model(small(), tmp_path)
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"config\.json (cannot be read|is not the configuration)") as caught:
        read_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_configuration_from_before_the_epsilon_was_stored_is_read(tmp_path: Path) -> None:
    save_model(small(), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    del values["layer_norm_eps"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert read_model(tmp_path).config.layer_norm_eps == 1e-6


def test_two_classes_may_have_one_name(tmp_path: Path) -> None:
    save_model(small(heads={"imagenet": ["crane", "owl", "crane"]}), tmp_path)
    assert read_model(tmp_path).config.heads["imagenet"] == ("crane", "owl", "crane")


def test_tensors_without_numbers_are_of_another_architecture(tmp_path: Path) -> None:
    save_model(small(), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file(state | {"norm.weight": torch.zeros(0)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"another architecture: norm\.weight is \[0\]"):
        read_model(tmp_path)


def test_whole_numbers_are_colours_too(tmp_path: Path) -> None:
    save_model(small(), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"mean": [0, 0, 0], "std": [1, 1, 1]}))
    model = read_model(tmp_path)
    assert model.mean.dtype == model.std.dtype == torch.float32
    frames = torch.randint(256, (4, 1, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(model({"k400": frames}), model({"k400": frames / 255}), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda norm: norm.to(torch.int8), r"norm\.weight is int8, but weights must be float64"),
        (lambda norm: norm.to(torch.float8_e5m2), r"norm\.weight is float8_e5m2, but weights must be"),
        (lambda norm: norm * float("nan"), r"norm\.weight has values that are NaN or infinite"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    save_model(small(), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file(state | {"norm.weight": change(state["norm.weight"])}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        read_model(tmp_path)


def test_a_model_saved_in_half_precision_computes_in_full(tmp_path: Path) -> None:
    save_model(small().half(), tmp_path)
    assert {parameter.dtype for parameter in read_model(tmp_path).parameters()} == {torch.float32}


def test_everyone_who_can_read_config_json_can_read_the_weights(tmp_path: Path) -> None:
    save_model(small(), tmp_path)
    modes = {file.name: file.stat().st_mode for file in tmp_path.iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]
