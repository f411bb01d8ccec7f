"""Files that run without cover: their logits are the model's, for any number of clips."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cover.errors import CheckpointError, CoverError
from cover.inference.prediction import predict_files
from cover.inference.views import Views
from cover.models.classifier import VideoClassifier
from cover.models.create import create_model
from cover.models.export import onnx_torch
from cover.models.export.graph import check_graph, fit
from cover.models.export.onnx_torch import export_onnx, export_torch

EXAMPLE = Path(__file__).parents[3] / "examples" / "onnx_predict.py"
HEADS = {"keys": ("abseiling", "air drumming", "köpfen"), "train": 4}
"""Two heads that are called like attributes of modules."""


def make_model(variant: str = "timesformer_tiny", **settings: Any) -> VideoClassifier:
    """A model in which every parameter matters, and which normalises as no other does."""
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"heads": HEADS, "depth": 2, "num_frames": 3, "image_size": 32}
    model = create_model(variant, **defaults | settings)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.normalise_as(replace(model.config, mean=(0.4, 0.45, 0.5), std=(0.2, 0.225, 0.25)))
    return model.eval()


def random_clips(num_clips: int, num_frames: int, size_px: int) -> Tensor:
    return torch.randint(256, (num_clips, num_frames, 3, size_px, size_px), dtype=torch.uint8)


def run_onnx(file: Path, clips: Tensor) -> dict[str, Tensor]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(file)
    assert [(input.name, input.shape[0], input.type) for input in session.get_inputs()] == [
        ("frames", "batch", "tensor(uint8)")
    ]
    names = [output.name for output in session.get_outputs()]
    logits = session.run(None, {"frames": clips.numpy()})
    return {name: torch.from_numpy(values) for name, values in zip(names, logits, strict=True)}


def assert_onnx_agrees(model: VideoClassifier, folder: Path) -> None:
    for num_clips in (1, 2, 5):
        clips = random_clips(num_clips, model.config.num_frames, model.config.image_size_px)
        with torch.no_grad():
            expected = model.predict(clips.transpose(0, 1))
        torch.testing.assert_close(run_onnx(folder / "model.onnx", clips), expected, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoClassifier, Path]:
    """A divided model of several frames, one head of which has sigmoids, and the folder of its ONNX file."""
    pytest.importorskip("onnxscript")
    model, folder = make_model(), tmp_path_factory.mktemp("onnx") / "exported"
    model.backbone.config = replace(model.config, sigmoid_heads=("train",))
    export_onnx(fit(model), folder)
    return model, folder


def test_onnx_gives_the_same_logits_and_says_what_they_are(exported: tuple[VideoClassifier, Path]) -> None:
    model, folder = exported
    assert_onnx_agrees(model, folder)
    assert sorted(file.name for file in folder.iterdir()) == ["model.json", "model.onnx"]
    described = json.loads((folder / "model.json").read_text())
    assert described["heads"] == {"keys": ["abseiling", "air drumming", "köpfen"], "train": ["0", "1", "2", "3"]}
    assert described["input"]["layout"] == "BTCYX"


@pytest.mark.parametrize(
    "settings",
    [
        {"attention": "joint", "num_frames": 2},
        {"attention": "space_only", "num_frames": 2},
        {"attention": "divided", "num_frames": 1, "image_temporal": "skip", "depth": 1},
    ],
)
def test_onnx_gives_the_same_logits_for_every_attention(tmp_path: Path, settings: dict[str, object]) -> None:
    pytest.importorskip("onnxscript")
    model = make_model("timesformer_tiny", **settings)
    export_onnx(fit(model), tmp_path / "exported")
    assert_onnx_agrees(model, tmp_path / "exported")


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["tiny", "small", "base", "large"])
@pytest.mark.parametrize("attention", ["divided", "joint", "space_only"])
@pytest.mark.parametrize("num_frames", [1, 8])
@pytest.mark.parametrize("image_temporal", ["attend", "skip"])
def test_onnx_gives_the_same_logits_in_every_shape(
    tmp_path: Path, variant: str, attention: str, num_frames: int, image_temporal: str
) -> None:
    depth = {"tiny": 6, "small": 12}.get(variant, 3)
    settings = {"attention": attention, "num_frames": num_frames, "image_temporal": image_temporal}
    model = make_model(f"timesformer_{variant}", depth=depth, image_size=64, **settings)
    export_onnx(fit(model), tmp_path / "exported")
    assert_onnx_agrees(model, tmp_path / "exported")


def test_another_length_and_size_and_a_single_head(tmp_path: Path) -> None:
    model = make_model(depth=1)
    export_torch(fit(model, head="train", num_frames=5, image_size_px=48), tmp_path / "exported")
    description = {"model.json": ""}
    program = torch.export.load(tmp_path / "exported" / "model.pt2", extra_files=description)
    for num_clips in (1, 4):
        clips = random_clips(num_clips, 5, 48)
        with torch.no_grad():
            (expected, found) = model.predict(clips.transpose(0, 1)), program.module()(clips)
        assert list(found) == ["train"]
        torch.testing.assert_close(found["train"], expected["train"], atol=1e-5, rtol=0)
    assert description["model.json"] == (tmp_path / "exported" / "model.json").read_text()
    described = json.loads(description["model.json"])
    assert (described["input"]["num_frames"], described["input"]["image_size_px"]) == (5, 48)
    assert described["heads"] == {"train": ["0", "1", "2", "3"]}


@pytest.mark.parametrize(("attention", "num_frames"), [("divided", 1), ("joint", 6), ("space_only", 4)])
def test_a_fitted_model_answers_as_the_model(attention: str, num_frames: int) -> None:
    model = make_model(attention=attention, image_temporal="skip")
    clips = random_clips(2, num_frames, 64)
    fitted = fit(model, num_frames=num_frames, image_size_px=64)
    with torch.no_grad():
        expected, found = (each.predict(clips.transpose(0, 1)) for each in (model, fitted))
    torch.testing.assert_close(found, expected)


def test_the_example_answers_as_cover_does(
    tmp_path: Path, write_video: Callable[..., Path], exported: tuple[VideoClassifier, Path]
) -> None:
    model, folder = exported
    video = write_video(tmp_path / "clip.mp4", num_frames=10, width_px=96, height_px=64)
    alone = EXAMPLE.read_text() + "    assert not {'torch', 'cover'} & set(sys.modules)\n"
    command = [sys.executable, "-c", alone]
    done = subprocess.run([*command, folder / "model.onnx", video], capture_output=True, text=True)
    assert done.stderr == ""

    with torch.no_grad():
        (predicted,) = predict_files(
            model.predict,
            [video],
            class_names=model.config.heads,
            sigmoid_heads=model.config.sigmoid_heads,
            views=dict.fromkeys(model.config.heads, Views(3, 32, num_crops=1)),
        )
    expected = [(head, name, 100 * share) for head, ranked in predicted.heads.items() for name, share in ranked]
    lines = [re.fullmatch(r"(\w+): (.+) ([\d.]+) %", line) for line in done.stdout.splitlines()]
    found = [(line[1], line[2], float(line[3])) for line in lines if line]
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    assert [row[2] for row in found] == pytest.approx([row[2] for row in expected], abs=1)


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    with pytest.raises(CheckpointError, match="there is no head 'mit'; give --head, one of keys, train"):
        fit(model, head="mit")
    with pytest.raises(CoverError, match="image_size 40 is not a multiple of patch_size 16; use 32"):
        fit(model, image_size_px=40)
    with pytest.raises(CoverError, match="the head 'frames' has the name of the input; export another with --head"):
        export_onnx(fit(make_model(heads={"frames": 2})), tmp_path / "exported")
    monkeypatch.setattr(onnx_torch, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(CoverError, match=re.escape("onnxscript is not installed; pip install 'cover-video[onnx]'")):
        export_onnx(fit(model), tmp_path / "exported")
    assert not list(tmp_path.iterdir())


def test_a_graph_with_other_logits_is_refused() -> None:
    model = make_model()

    def answer(clips: Tensor) -> dict[str, Tensor]:
        return {name: logits + 2e-4 for name, logits in model.predict(clips.transpose(0, 1)).items()}

    with pytest.raises(
        CoverError, match=r"exported logits differ from the model's by 2\.0e-04, but rounding explains only 1e-04"
    ):
        check_graph(model, answer)
    check_graph(model, lambda clips: model.predict(clips.transpose(0, 1)))
