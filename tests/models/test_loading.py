"""What loading takes, adapts, leaves and reports."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from safetensors.torch import load_file, save_file
from tests.models import foreign
from tests.timesformers import backbone_of
from torch import Tensor

from cover.errors import CheckpointError
from cover.models.backbone import Resize
from cover.models.classifier import VideoClassifier, read_model, save_model
from cover.models.create import create_model
from cover.models.loading import LoadReport, load_weights, report_table


def small(**settings: Any) -> VideoClassifier:
    defaults: dict[str, Any] = {
        "num_frames": 4,
        "image_size": 32,
        "depth": 2,
        "width": 48,
        "heads": {"k400": ["run", "jump"]},
    }
    return create_model("timesformer_tiny", **defaults | settings)


def test_an_image_model_seeds_temporal_attention(tmp_path: Path) -> None:
    source = small(attention="space_only", image_size=64, heads={"imagenet": 3})
    save_model(source, tmp_path)
    model = small(num_frames=8, temporal_init="random")
    report = load_weights(model, tmp_path)
    for name in ("qkv.weight", "qkv.bias", "proj.weight", "proj.bias"):
        copied = model.backbone.get_parameter(f"blocks.1.temporal_attn.{name}")
        assert torch.equal(copied, source.backbone.get_parameter(f"blocks.1.attn.{name}"))
    for name in ("blocks.1.temporal_fc.weight", "time_embed"):
        assert name in report.fresh
        assert not model.backbone.get_parameter(name).any()
    assert report.resized == ["pos_embed"]
    assert report.unused == ["heads.imagenet.bias", "heads.imagenet.weight"]
    assert {*report.loaded, *report.copied, *report.resized, *report.fresh} == model.state_dict().keys()
    assert str(report) == "cover, tensors: 29 loaded, 12 copied, 1 resized, 7 fresh, 2 unused"


def test_a_random_temporal_start_keeps_its_own_attention(tmp_path: Path) -> None:
    save_model(small(attention="space_only"), tmp_path)
    model = small(temporal_init="random")
    before = model.backbone.get_parameter("blocks.0.temporal_attn.qkv.weight").clone()
    load_weights(model, tmp_path, temporal_init="random")
    assert torch.equal(model.backbone.get_parameter("blocks.0.temporal_attn.qkv.weight"), before)
    assert backbone_of(model).time_embed.any()


def test_a_head_takes_its_rows_by_class_name(tmp_path: Path) -> None:
    source = small(heads={"k400": ["run", "jump"], "ssv2": ["push", "pull", "lift"], "mit": ["bow"]})
    torch.nn.init.normal_(source.get_parameter("heads.ssv2.bias"))
    save_model(source, tmp_path)
    model = small(heads={"k400": ["run", "jump"], "ssv2": ["pull", "drop", "lift"], "mit": ["sing"]})
    fresh = model.get_parameter("heads.ssv2.weight")[1].clone()
    report = load_weights(model, tmp_path)
    old, new = (each.heads["ssv2"].state_dict() for each in (source, model))
    assert torch.equal(new["weight"], torch.stack([old["weight"][1], fresh, old["weight"][2]]))
    assert new["bias"].tolist() == [old["bias"][1].item(), 0, old["bias"][2].item()]
    assert "heads.k400.weight" in report.loaded
    assert report.matched == ["heads.ssv2.weight", "heads.ssv2.bias"]
    assert "heads.mit.weight" in report.fresh
    assert report.unused == ["heads.mit.bias", "heads.mit.weight"]
    assert report.notes == ["head ssv2: rows: 1 kept, 1 moved, 1 fresh, 1 dropped"]


def test_a_head_takes_the_rows_of_its_classes_from_a_head_of_another_name(tmp_path: Path) -> None:
    """Kinetics-400 after Kinetics-710, which has newer names for some of its classes."""
    merged = ["abseiling", "hugging (not baby)", "sipping cup", "yoga"]
    source = small(heads={"ssv2": ["yoga", "push"], "k710": merged})
    save_model(source, tmp_path)
    model = small(heads={"k400": ["yoga", "hugging", "drinking"], "mine": ["yoga", "push"], "digits": 2})
    report = load_weights(model, tmp_path, heads_from={"k400": "k710"})
    old, new = source.get_parameter("heads.k710.weight"), model.get_parameter("heads.k400.weight")
    assert torch.equal(new, old[[3, 1, 2]])
    assert report.matched == ["heads.k400.weight", "heads.k400.bias"]
    assert report.notes == [
        "head k400: 3 of 3 rows copied from head k710",
        "head mine is fresh, and ssv2 of the source has 2 of its 2 classes; "
        'datasets.mine.init_head = "ssv2" copies their rows',
    ]
    assert "heads.mine.weight" in report.fresh
    with pytest.raises(CheckpointError, match=r"has no head 'k7' with classes of mine; its heads are ssv2, k710"):
        load_weights(model, tmp_path, heads_from={"mine": "k7"})


def test_fresh_heads_take_no_rows(tmp_path: Path) -> None:
    save_model(small(heads={"k400": ["jump", "run"]}), tmp_path)
    report = load_weights(small(), tmp_path, fresh_heads=True)
    assert "heads.k400.weight" in report.fresh and not report.notes


def test_numbered_classes_of_a_source_are_no_names(tmp_path: Path) -> None:
    """Digits are classes, too; rows 0 and 1 of a ViT without class names are not those of the digits 0 and 1."""
    np.savez(tmp_path / "vit.npz", **foreign.jax_arrays(foreign.create_vit()))
    sizes: dict[str, Any] = {"width": 128, "num_heads": 2}
    other = load_weights(small(**sizes, heads={"head": ["1", "0"]}), tmp_path / "vit.npz")
    assert "heads.head.weight" in other.fresh
    same = load_weights(small(**sizes, heads={"head": 3}), tmp_path / "vit.npz")
    assert "heads.head.weight" in same.loaded


def test_heads_that_a_file_does_not_state_are_the_models_and_the_report_says_so(tmp_path: Path) -> None:
    torch.save(foreign.timm_state(vit := foreign.create_vit(num_attention_heads=4)), tmp_path / "vit.pth")
    model = small(width=128, num_heads=4, heads={"head": 3}, num_frames=1).eval()
    report = load_weights(model, tmp_path / "vit.pth")
    assert "num_heads: not stated by the file; taken from the model (4)" in report.notes
    assert "normalisation: not stated by the file; assumed: mean 0.5 and std 0.5, usual for timm's ViT" in report.notes
    assert str(report).count("not stated by the file") == 2
    frames = torch.randn(1, 2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model({"head": frames})["head"], vit(frames[0]).logits, rtol=0, atol=1e-5)


def test_embeddings_are_resized_smoothly_or_as_published(tmp_path: Path) -> None:
    source = small(num_frames=4, image_size=48, temporal_init="random")
    save_model(source, tmp_path)
    theirs = backbone_of(source)
    patches, time = theirs.pos_embed[:, 1:].transpose(1, 2), theirs.time_embed.transpose(1, 2)
    expected: dict[Resize, tuple[Tensor, Tensor]] = {
        "smooth": (
            F.interpolate(patches.unflatten(2, (3, 3)), size=(4, 4), mode="bicubic").flatten(2),
            F.interpolate(time, size=8, mode="linear"),
        ),
        "published": (F.interpolate(patches, size=16, mode="nearest"), F.interpolate(time, size=8, mode="nearest")),
    }
    for resize, (pos_embed, time_embed) in expected.items():
        model = small(num_frames=8, image_size=64)
        assert load_weights(model, tmp_path, resize=resize).resized == ["pos_embed", "time_embed"]
        ours = backbone_of(model)
        assert torch.equal(ours.pos_embed[:, 1:].transpose(1, 2), pos_embed)
        assert torch.equal(ours.pos_embed[:, :1], theirs.pos_embed[:, :1])
        assert torch.equal(ours.time_embed.transpose(1, 2), time_embed)


def test_the_model_takes_over_the_normalisation_and_stores_it(tmp_path: Path) -> None:
    vit = foreign.save_transformers_vit(foreign.create_vit(), tmp_path / "vit")
    model = small(width=128, num_heads=2)
    load_weights(model, vit)
    save_model(model, tmp_path / "ours")
    frames = torch.randint(256, (4, 1, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.4, 0.5, 0.6), (0.2, 0.2, 0.2)))
    expected = model.eval()({"k400": (frames / 255 - mean) / std})["k400"]
    assert torch.allclose(read_model(tmp_path / "ours")({"k400": frames})["k400"], expected, atol=1e-5)


@pytest.mark.parametrize("setting", [{"width": 24}, {"depth": 3}, {"patch_size": 8}, {"num_heads": 4}])
def test_another_backbone_is_refused(setting: dict[str, int], tmp_path: Path) -> None:
    save_model(small(), tmp_path)
    with pytest.raises(CheckpointError, match=r"\(cover\) has (\w+) (\d+), this model has \d+; set model.\1 = \2"):
        load_weights(small(**setting), tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused_and_change_nothing(value: float, tmp_path: Path) -> None:
    save_model(small(), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["norm.weight"] = state["norm.weight"].double()  # 1e300 is finite until it becomes float32
    state["norm.weight"][3] = value
    save_file(state, tmp_path / "model.safetensors")
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"norm\.weight has values that are NaN or infinite; use another copy"):
        load_weights(model, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_quantised_weights_and_a_file_cut_after_opening_are_refused(tmp_path: Path) -> None:
    arrays = foreign.jax_arrays(foreign.create_vit())
    model = small(width=128, num_heads=2)
    np.savez(tmp_path / "vit.npz", **arrays | {"Transformer/encoder_norm/bias": np.zeros(128, np.int8)})
    with pytest.raises(CheckpointError, match=r"encoder_norm/bias is int8, but weights must be float64"):
        load_weights(model, tmp_path / "vit.npz")
    np.savez(tmp_path / "vit.npz", **arrays)
    data = bytearray((tmp_path / "vit.npz").read_bytes())
    kernel = arrays["Transformer/encoderblock_1/MlpBlock_3/Dense_0/kernel"]
    start = data.index(kernel.tobytes("A")) + kernel.nbytes // 2
    data[start] ^= 1
    (tmp_path / "vit.npz").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"mlp\.fc1\.weight cannot be read \(Bad CRC-32 for file"):
        load_weights(small(width=128, num_heads=2, heads={"head": 3}), tmp_path / "vit.npz")


def test_the_table_names_each_kind_of_tensor_once(tmp_path: Path) -> None:
    save_model(small(attention="space_only", heads={}), tmp_path)
    console = Console(file=StringIO(), width=200)
    console.print(report_table(load_weights(small(), tmp_path)))
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert text.count("blocks.*.temporal_attn.qkv") == 1
    assert "fresh" in text and "unused" not in text


def test_a_part_with_many_tensors_is_one_entry_of_the_table() -> None:
    names = [f"predictor.{number}x.{kind}" for number in "abcdefghijk" for kind in ("weight", "bias")]
    table = report_table(LoadReport("cover", unused=[*names, "blocks.0.norm1.weight", "blocks.1.norm1.weight"]))
    assert list(table.columns[2].cells) == ["predictor: 22 tensors, blocks.*.norm1"]


def test_a_pooler_that_a_linear_model_does_not_use_is_named(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"depth": 1, "image_size": 32, "heads": {"a": 2}}
    save_model(create_model("timesformer_tiny", head="attentive", pooler_depth=0, **sizes), tmp_path)
    report = load_weights(create_model("timesformer_tiny", **sizes), tmp_path)
    assert any(note.endswith('model.head = "attentive" uses it') for note in report.notes)
