"""What other tools read of ours: transformers' VideoClassifier, the Hugging Face hub's own calls, plain safetensors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from tests.timesformers import config_of
from transformers import TimesformerForVideoClassification
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from cover.errors import CheckpointError, CoverError
from cover.models.classifier import VideoClassifier, read_model
from cover.models.create import create_model
from cover.models.export.formats import export_safetensors
from cover.models.loading import load_weights
from cover.models.sources import open_source
from cover.models.timesformer.transformers import export_transformers

CLASSES = ("abseiling", "air drumming", "köpfen")


def small(**settings: Any) -> VideoClassifier:
    """A model in which every parameter matters, and which normalises as no other does."""
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "depth": 2,
        "width": 48,
        "num_heads": 3,
        "num_frames": 4,
        "image_size": 32,
        "drop_path_rate": 0.1,
    }
    model = create_model("timesformer_tiny", **{"heads": {"k400": CLASSES, "ssv2": 4}} | defaults | settings)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.normalise_as(replace(model.config, mean=(0.4, 0.45, 0.5), std=(0.2, 0.225, 0.25)))
    return model.eval()


@pytest.mark.parametrize(("attention", "num_frames"), [("divided", 4), ("joint", 4), ("space_only", 1)])
def test_transformers_gives_the_same_logits(tmp_path: Path, attention: str, num_frames: int) -> None:
    model = small(attention=attention)
    export_transformers(model, tmp_path / "hf", "k400")
    theirs = TimesformerForVideoClassification.from_pretrained(tmp_path / "hf").eval()
    prepare = VideoMAEImageProcessorPil.from_pretrained(tmp_path / "hf")
    frames = torch.randint(256, (num_frames, 1, 3, 32, 32), dtype=torch.uint8)
    pixels = prepare([*frames[:, 0].numpy()], return_tensors="pt", input_data_format="channels_first")["pixel_values"]
    with torch.no_grad():
        torch.testing.assert_close(theirs(pixels).logits, model({"k400": frames})["k400"], atol=1e-5, rtol=0)
    assert theirs.config.id2label == dict(enumerate(CLASSES))
    assert theirs.config.label2id["köpfen"] == 2


def test_ours_to_transformers_to_ours_gives_identical_tensors(tmp_path: Path) -> None:
    model = small(heads={"head": CLASSES})
    export_transformers(model, tmp_path / "ours")
    for saved in (TimesformerForVideoClassification, VideoMAEImageProcessorPil):
        saved.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    for folder in ("ours", "theirs"):
        again = create_model("timesformer_tiny", **_settings(model), heads={"head": CLASSES})
        report = load_weights(again, tmp_path / folder)
        assert not (report.fresh or report.unused or report.resized or report.copied)
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())
        assert again.config == replace(model.config.settled(), drop_path_rate=0)
        assert open_source(tmp_path / folder).config == again.config


def _settings(model: VideoClassifier) -> dict[str, Any]:
    config = config_of(model.config)
    sizes: dict[str, Any] = {"num_frames": config.num_frames, "image_size": config.image_size_px}
    return sizes | {"depth": config.depth, "width": config.width, "num_heads": config.num_heads}


def test_our_own_format_and_the_hubs_calls_keep_everything_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # whatever goes online raises
    model = small()
    export_safetensors(model, tmp_path / "plain")
    model.save_pretrained(tmp_path / "hub")
    for again in (read_model(tmp_path / "plain"), VideoClassifier.from_pretrained(tmp_path / "hub")):
        assert again.config == model.config and not again.training
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())
        assert torch.equal(again.mean, model.mean)
    plain, hub = ({file.name for file in (tmp_path / name).iterdir()} for name in ("plain", "hub"))
    assert (plain, hub) == ({"config.json", "model.safetensors"}, {"config.json", "model.safetensors", "README.md"})
    assert json.loads((tmp_path / "hub" / "config.json").read_text())["model_type"] == "cover-timesformer"
    assert capsys.readouterr().out == ""


def test_only_a_string_that_names_no_folder_is_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    save = small().save_pretrained

    def save_to(name: str, **_: object) -> str:
        asked.append(name)
        save(tmp_path / name)
        return str(tmp_path / name)

    monkeypatch.setattr("cover.models.classifier.snapshot_download", save_to)

    assert VideoClassifier.from_pretrained("owner/name").config.heads["k400"] == CLASSES
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        VideoClassifier.from_pretrained(tmp_path / "absent")
    assert asked == ["owner/name"]


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no head is named, and the format takes one; give --head, one of k400"):
        export_transformers(small(), tmp_path / "out")
    with pytest.raises(CheckpointError, match="there is no head 'mit', and the format takes one"):
        export_transformers(small(), tmp_path / "out", "mit")
    with pytest.raises(CheckpointError, match="is unknown to transformers; export with --to safetensors"):
        export_transformers(small(image_temporal="skip", num_frames=1), tmp_path / "out", "k400")
    assert not list(tmp_path.iterdir())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(CoverError, match="full exists already; name a new folder"):
        export_safetensors(small(), tmp_path / "full")
