"""Weights of other code: those of transformers and of scenic in, image ViTs to start from, and transformers' out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.foreign import create_vit, save_jax, save_transformers_vit, timm_state
from tests.models.vivit import golden
from tests.models.vivit.vivits import ATTENTION, clips, create_oracle, golden_model, oracle_logits, small_model
from transformers import VivitForVideoClassification, VivitImageProcessor

from cover.errors import CheckpointError, CoverError
from cover.models.classifier import VideoClassifier, save_model
from cover.models.create import create_model
from cover.models.export.formats import export_for
from cover.models.export.graph import fit
from cover.models.export.onnx_torch import export_onnx
from cover.models.info import describe
from cover.models.loading import load_weights
from cover.models.sources import open_source

LABELS = ("cat", "dog", "köpfen", "owl", "yak")


@pytest.mark.parametrize("attention", ATTENTION)
def test_official_files_load_whole_and_state_their_sizes(tmp_path: Path, attention: str) -> None:
    np.savez(tmp_path / "official.npz", **golden.read(attention)["weights"])
    model = golden_model(attention, ("head",))
    report = load_weights(model, tmp_path / "official.npz")
    assert report.format == "vivit" and len(report.loaded) == len(model.state_dict()) and not report.unused
    info = describe(tmp_path / "official.npz")
    assert replace(model.config, heads={}, drop_path_rate=0.0) == replace(info.config, heads={})
    assert f"{attention}, 2 blocks, width 8, 2 heads, tanh GELU" in info.config.describe(info.not_stated)
    assert ("3 temporal blocks" in info.config.describe()) == (attention == "factorised_encoder")


def test_checkpoints_of_scenic_load_without_the_optimizer(tmp_path: Path) -> None:
    """Flax wrote the file; see golden.py."""
    model = golden_model("factorised_encoder", ("head",))
    report = load_weights(model, golden.CHECKPOINT)
    assert len(report.loaded) == len(model.state_dict()) and not report.unused
    np.savez(tmp_path / "same.npz", **golden.read("factorised_encoder")["weights"])
    same = open_source(tmp_path / "same.npz")
    assert all(torch.equal(tensor, same.tensor(name)) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("cut", [1, 40, 1000, -1])
def test_damaged_checkpoints_of_scenic_are_refused(tmp_path: Path, cut: int) -> None:
    data = golden.CHECKPOINT.read_bytes()
    (tmp_path / "cut").write_bytes(data[:cut])
    (tmp_path / "longer").write_bytes(data + b"x")
    (tmp_path / "deep").write_bytes(b"\x81\xa1a" * 100 + b"\x01")
    (tmp_path / "wrong").write_bytes(data.replace(b"float32", b"float64", 1))
    # Each array says that it ends before the value inside it, so everything after it would be read twice.
    (tmp_path / "twice").write_bytes(b"\x81\xa1a" + b"\x92\xc7\x02\x01\x93\x90" * 18 + b"\xc0\xc4\x00")
    for name in ("cut", "longer", "deep", "wrong", "twice"):
        with pytest.raises(CheckpointError, match=r"damaged or cut short|not a file of weights"):
            open_source(tmp_path / name)


def test_positions_without_a_grid_are_refused(tmp_path: Path) -> None:
    weights = golden.read("joint")["weights"]
    positions = next(name for name in weights if name.endswith("pos_embedding"))
    np.savez(tmp_path / "many.npz", **weights | {positions: np.zeros((1, 999_999_999_989, 0), np.float32)})
    with pytest.raises(CheckpointError, match="pos_embed has 999999999988 places"):
        open_source(tmp_path / "many.npz")


def test_another_of_the_four_models_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "official.npz", **golden.read("joint")["weights"])
    message = r"has attention joint and .*, this model has attention factorised_encoder and .*; set \[model\] as below"
    with pytest.raises(CheckpointError, match=message):
        load_weights(golden_model("factorised_encoder", ("head",)), tmp_path / "official.npz")


@pytest.mark.parametrize("normalises", [True, False])
def test_files_of_transformers_load_whole(tmp_path: Path, normalises: bool) -> None:
    oracle = create_oracle(id2label=dict(enumerate(LABELS)), hidden_act="gelu", layer_norm_eps=1e-5)
    oracle.save_pretrained(tmp_path)
    processor = VivitImageProcessor(
        do_normalize=normalises, image_mean=[0.1, 0.2, 0.3], do_resize=False, do_center_crop=False
    )
    processor.save_pretrained(tmp_path)
    model = small_model(heads={"head": LABELS})
    report = load_weights(model, tmp_path)
    assert report.format == "transformers-vivit" and len(report.loaded) == len(model.state_dict())
    assert not (report.fresh or report.unused or report.resized or report.copied)
    assert open_source(tmp_path).config == model.config and model.config.layer_norm_eps == 1e-5
    frames = torch.randint(256, (4, 1, 3, 32, 32), dtype=torch.uint8)
    pixels = processor([*frames[:, 0].numpy()], return_tensors="pt", input_data_format="channels_first")["pixel_values"]
    with torch.no_grad():
        torch.testing.assert_close(model({"head": frames})["head"], oracle(pixels).logits, atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", ["transformers", "timm", "jax", "cover"])
def test_the_image_of_a_joint_model_has_the_logits_of_the_image_model(tmp_path: Path, kind: str) -> None:
    vit = saved_vit(tmp_path, kind)
    model = start(tmp_path / "vit.pth", num_frames=4)
    image = clips(1, 2)
    with torch.no_grad():
        expected = vit.vit(image[0]).last_hidden_state[:, 0]
        torch.testing.assert_close(features(model, image), expected, atol=1e-4, rtol=1e-4)
        still = features(model, image.expand(2, -1, -1, -1, -1))
        torch.testing.assert_close(still, expected, atol=1e-4, rtol=1e-4)
        ordered = features(model, frames := clips(4, 1))
        torch.testing.assert_close(features(model, frames[[2, 3, 0, 1]]), ordered)  # positions know no time yet
    assert open_source(tmp_path / "vit.pth").config.family == "timesformer"


def test_rows_of_a_factorised_encoder_have_the_features_of_the_image_model(tmp_path: Path) -> None:
    vit = saved_vit(tmp_path, "timm")
    model = start(tmp_path / "vit.pth", attention="factorised_encoder", num_frames=4)
    seen = list[torch.Tensor]()
    model.backbone.norm.register_forward_hook(lambda _module, _input, output: seen.append(output))  # type: ignore[union-attr]
    frames = clips(4, 1)
    with torch.no_grad():
        features(model, frames)
        expected = vit.vit(frames[1::2, 0]).last_hidden_state[:, 0]  # the central frames
    torch.testing.assert_close(seen[0], expected, atol=1e-4, rtol=1e-4)


def test_factorised_attention_starts_as_the_mean_of_the_central_frames(tmp_path: Path) -> None:
    """Attention over time has no effect yet, and there is no class token."""
    vit = saved_vit(tmp_path, "timm")
    model = start(tmp_path / "vit.pth", attention="factorised_attention", num_frames=4)
    frames = clips(4, 1)
    with torch.no_grad():
        embeddings = vit.vit.embeddings(frames[1::2, 0])[:, 1:]
        for layer in vit.vit.layers:
            embeddings = layer(embeddings)
        expected = vit.vit.layernorm(embeddings).mean((0, 1), keepdim=True)[0]
        torch.testing.assert_close(features(model, frames), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("attention", ATTENTION)
def test_reports_of_image_starts_name_what_is_fresh_and_copied(tmp_path: Path, attention: str) -> None:
    saved_vit(tmp_path, "timm")
    model = create_model("vivit_base", **sizes(attention=attention, num_frames=4, heads={"k400": 5}))
    report = load_weights(model, tmp_path / "vit.pth")
    fresh = {name for name in report.fresh if not name.startswith("heads")}
    assert all(name.startswith("temporal_") for name in fresh) == (attention != "factorised_attention")
    assert bool(fresh) == (attention in ("factorised_encoder", "factorised_attention"))
    assert bool(report.copied) == (attention == "factorised_attention")
    assert ("cls_token" in report.unused) == (attention in ("factorised_attention", "factorised_heads"))
    assert ("pos_embed" in report.resized) == (attention != "factorised_encoder")


def saved_vit(folder: Path, kind: str) -> Any:
    """An image ViT of transformers, and vit.pth with its weights as some code saves them."""
    torch.manual_seed(0)
    vit = create_vit()
    if kind == "timm":
        torch.save(timm_state(vit), folder / "vit.pth")
    elif kind == "jax":
        save_jax(vit, folder / "vit.npz").rename(folder / "vit.pth")  # a file's name does not matter
    else:
        save_transformers_vit(vit, folder / ("vit.pth" if kind == "transformers" else "theirs"))
    if kind == "cover":  # a run of the policy "pretrain"
        ours = create_model(depth=2, width=128, num_heads=2, image_size=32, attention="space_only", heads={})
        load_weights(ours, folder / "theirs")
        save_model(ours, folder / "vit.pth")
    return vit


def sizes(**settings: Any) -> dict[str, Any]:
    return {"depth": 2, "width": 128, "num_heads": 2, "image_size": 32, "heads": {}} | settings


def start(path: Path, **settings: Any) -> VideoClassifier:
    model = create_model("vivit_base", **sizes(**settings))
    load_weights(model, path)
    return model.eval()


def features(model: VideoClassifier, frames: torch.Tensor) -> torch.Tensor:
    from cover.models.packing import PackedClips, pack

    packed, _ = pack({"any": frames})
    out: torch.Tensor = model.backbone(PackedClips(**vars(packed), mean_C11=model.mean, std_C11=model.std))
    return out


def test_positions_are_resized_to_another_length_and_size(tmp_path: Path) -> None:
    save_model(small_model(num_frames=8, image_size=48, heads={}), tmp_path / "long")
    model = small_model()
    report = load_weights(model, tmp_path / "long")
    assert report.resized == ["pos_embed"]
    fitted = fit(small_model(), num_frames=8, image_size_px=48)
    assert fitted.state_dict()["pos_embed"].shape == (1, 1 + 4 * 9, 24)


def test_positions_of_another_grid_are_resized_even_if_they_are_as_many(tmp_path: Path) -> None:
    """4 × 2 × 2 and 1 × 4 × 4. A model resizes its positions in every pass, too, so both compute the same."""
    source, model = small_model(num_frames=8, image_size=32), small_model(num_frames=2, image_size=64)
    save_model(source, tmp_path)
    assert load_weights(model, tmp_path).resized == ["pos_embed"]
    frames = clips(2, 2, 64)
    torch.testing.assert_close(features(model, frames), features(source, frames), atol=1e-5, rtol=1e-5)


def test_positions_of_a_grid_that_is_not_stated_stay_if_they_are_as_many(tmp_path: Path) -> None:
    """The official names do not tell 3 × 2 × 2 places from 12 × 1 × 1."""
    np.savez(tmp_path / "official.npz", **golden.read("joint")["weights"])
    source = open_source(tmp_path / "official.npz")
    model = golden_model("joint", ("head",), num_frames=4 * golden.FRAMES, image_size=golden.SIZE // 2)
    assert model.config.num_frames != source.config.num_frames
    assert load_weights(model, source).resized == []
    assert torch.equal(model.state_dict()["pos_embed"], source.tensor("pos_embed"))


def test_ours_to_transformers_to_ours_gives_identical_tensors(tmp_path: Path) -> None:
    model = small_model(heads={"head": LABELS, "other": 3}, drop_path_rate=0.1, activation="gelu_tanh")
    export_for("transformers", model, tmp_path / "ours", "head")
    theirs = VivitForVideoClassification.from_pretrained(tmp_path / "ours").eval()
    frames = torch.randint(256, (4, 1, 3, 32, 32), dtype=torch.uint8)
    prepare = VivitImageProcessor.from_pretrained(tmp_path / "ours")
    pixels = prepare([*frames[:, 0].numpy()], return_tensors="pt", input_data_format="channels_first")["pixel_values"]
    with torch.no_grad():
        torch.testing.assert_close(theirs(pixels).logits, model({"head": frames})["head"], atol=2e-5, rtol=0)
    theirs.save_pretrained(tmp_path / "theirs")
    prepare.save_pretrained(tmp_path / "theirs")
    for folder in ("ours", "theirs"):
        again = small_model(heads={"head": LABELS})
        report = load_weights(again, tmp_path / folder)
        assert not (report.fresh or report.unused or report.resized or report.copied)
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())
        assert again.config == replace(model.config, drop_path_rate=0, heads={"head": LABELS})
    assert oracle_logits(theirs, clips(4, 1)).shape == (1, 5)


def test_other_models_than_the_joint_one_are_not_exported_to_transformers(tmp_path: Path) -> None:
    with pytest.raises(CoverError, match="transformers has only the joint ViViT"):
        export_for("transformers", small_model(attention="factorised_heads"), tmp_path / "out")


def test_programs_compute_the_logits_of_the_model(tmp_path: Path) -> None:
    """The exports check that themselves, to 1e-4, for batches of 1 and 3."""
    model = small_model(attention="factorised_heads", depth=1, heads={"k400": 5, "ssv2": 4})
    export_onnx(fit(model, num_frames=4), tmp_path / "onnx")
    assert (tmp_path / "onnx" / "model.onnx").exists()
