from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.models.oracle import create_oracle, oracle_logits
from torch.utils.flop_counter import FlopCounterMode

from cover.models.classifier import VideoClassifier, save_model
from cover.models.create import create_model, num_parameters
from cover.models.info import describe, info_table, multiply_adds
from cover.models.timesformer.config import variant_config
from cover.models.timesformer.transformers import export_transformers


def counted(attention: str) -> tuple[float, float]:
    """Multiply-adds of Base 8 × 224 as torch counts them: of the published model, and of ours."""
    with torch.device("meta"):
        oracle = create_oracle(
            attention=attention,
            num_frames=8,
            image_size=224,
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            num_labels=400,
        )
        model = VideoClassifier(variant_config("timesformer_base", {"k400": 400}, attention=attention))
        frames = torch.empty(8, 1, 3, 224, 224)
        with torch.no_grad(), FlopCounterMode(display=False) as theirs:
            oracle_logits(oracle, frames)
        with torch.no_grad(), FlopCounterMode(display=False) as ours:
            model({"k400": frames})
    return theirs.get_total_flops() / 2, ours.get_total_flops() / 2


@pytest.mark.parametrize(("attention", "share"), [("divided", 0.92), ("joint", 0.96), ("space_only", 0.93)])
def test_multiply_adds_are_those_that_torch_counts(attention: str, share: float) -> None:
    """Of the published model. Ours has fewer: the last block answers for the class token alone."""
    theirs, ours = counted(attention)
    config = variant_config("timesformer_base", {"k400": 400}, attention=attention)
    assert multiply_adds(config) == theirs
    assert ours / theirs == pytest.approx(share, abs=0.005)


def test_base_takes_the_published_196_g_multiply_adds() -> None:
    assert round(multiply_adds(variant_config("timesformer_base", {"k400": 400})) / 1e9) == 196


def test_a_model_is_described_without_its_weights_being_read(tmp_path: Path) -> None:
    heads: dict[str, Any] = {"k400": ["run", "jump"], "imagenet": 7}
    model = create_model("timesformer_tiny", heads=heads, depth=2, num_frames=4, image_size=32)
    save_model(model, tmp_path)
    info = describe(tmp_path)
    assert info.config == model.config
    assert info.num_parameters == num_parameters(model.config)
    assert info.multiply_adds == multiply_adds(model.config)
    read = json.loads(info.to_json())
    assert read["config"]["heads"]["k400"] == ["run", "jump"]
    assert (read["format"], read["num_parameters"]) == ("cover", info.num_parameters)


def test_the_table_says_what_a_user_asks_for(tmp_path: Path) -> None:
    model = create_model("timesformer_tiny", heads={"k400": [f"class {i}" for i in range(9)]}, depth=2)
    export_transformers(model, tmp_path / "hf")
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(info_table(describe(tmp_path / "hf")))
    text = console.export_text()
    for words in (
        "transformers-timesformer",
        "divided attention, 2 blocks, width 192",
        f"{num_parameters(model.config):,}",
        "8 frames of 224 × 224 px",
        "9 classes: class 0, class 1, class 2, class 3, …",
        "mean 0.5 0.5 0.5",
    ):
        assert words in text
