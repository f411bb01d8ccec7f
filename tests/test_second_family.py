"""A family of backbones that only registers itself trains, resumes, evaluates and exports like the first one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from examples.second_family import Toy, ToyFamily
from safetensors.torch import load_file
from tests.terminal import Cover, terminal

import cover as library
from cover.config import families
from cover.core.run_files import find_checkpoint
from cover.datasets.layouts.class_folders import index_folder

WriteMedia = Callable[..., Path]
RECIPE = """
policy = "cotrain"

[model]
family = "toy"
width = 12
num_frames = 4
image_size = 32

[datasets.moves]
train = "moves-train.arrow"
val = "moves-val.arrow"

[datasets.pets]
train = "pets-train.arrow"
val = "pets-val.arrow"

[data]
batch_size = 4
num_workers = 0

[optimizer]
layer_decay = 0.5
learning_rate = 0.1

[training]
epochs = 4
ema_decay = 0.5
activation_checkpointing = 1
"""


@pytest.fixture
def cover(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cover:
    return terminal(capsys, monkeypatch)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(families, "_registered", dict(families._registered))
    families.register(ToyFamily())
    yield


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, write_video: WriteMedia, write_image: WriteMedia) -> Path:
    """A recipe beside manifests of videos and images."""
    root = tmp_path_factory.mktemp("toy")
    for index in range(8):
        place = Path("val" if index % 4 == 3 else "train") / ("left" if index % 2 else "right") / str(index)
        write_video(root / "moves" / place.with_suffix(".mp4"), num_frames=6, width_px=48, height_px=40)
        write_image(root / "pets" / place.with_suffix(".png"), index, width_px=48, height_px=40)
    index_folder(root / "moves", kind="video", out=root)
    index_folder(root / "pets", kind="image", out=root)
    (root / "recipe.toml").write_text(RECIPE)
    return root


def test_it_trains_and_resumes_to_the_bit(cover: Cover, work: Path) -> None:
    recipe, whole, parts = work / "recipe.toml", work / "whole", work / "parts"
    assert "moves" in cover("train", recipe, "--out", whole, "--dry-run").out
    assert not cover("train", recipe, "--out", whole).err
    cover("train", recipe, "--out", parts, "--set", "training.max_steps=5")
    cover("train", recipe, "--out", parts, "--resume")
    for file in ("model.safetensors", "training.safetensors"):
        expected, found = (load_file(find_checkpoint(run, "latest") / file) for run in (whole, parts))
        assert expected.keys() == found.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    assert json.loads((find_checkpoint(whole) / "config.json").read_text())["model_type"] == "cover-toy"


def test_what_is_done_with_a_run_is_done_with_it(cover: Cover, work: Path, tmp_path: Path) -> None:
    run = work / "run"
    cover("train", work / "recipe.toml", "--out", run, "--set", "training.max_steps=2")
    assert "pets" in cover("evaluate", run, "--split", "val").out
    assert "mean patch, width 12" in cover("info", run).out
    cover("export", run, tmp_path / "ours", "--to", "safetensors")
    model = library.VideoClassifier.from_pretrained(tmp_path / "ours")
    assert isinstance(model.backbone, Toy)
    cover("export", run, tmp_path / "program", "--to", "torch-export")
    program = torch.export.load(tmp_path / "program" / "model.pt2").module()
    frames = torch.randint(256, (2, 4, 3, 32, 32), dtype=torch.uint8)
    for head, logits in model.predict(frames.transpose(0, 1)).items():
        torch.testing.assert_close(program(frames)[head], logits)


def test_what_it_does_not_offer_is_refused_in_a_line(cover: Cover, work: Path, tmp_path: Path) -> None:
    run = work / "refused"
    cover("train", work / "recipe.toml", "--out", run, "--set", "training.max_steps=1")
    answer = cover("export", run, tmp_path / "out", "--to", "transformers", "--head", "moves")
    assert "transformers has no model of the family toy; export with --to safetensors" in answer.err
    video = next((work / "moves").rglob("*.mp4"))
    answer = cover("explain", run, video, "--out", tmp_path / "seen", "--head", "moves")
    assert "models of the family toy cannot be explained" in answer.err
    changes = [f"init={run}", "model.family=timesformer", "model.width=48"]
    overrides = [part for change in changes for part in ("--set", change)]
    answer = cover("train", work / "recipe.toml", "--out", tmp_path / "new", *overrides)
    assert "is a toy, this model a timesformer" in answer.err


@pytest.mark.parametrize("change", ["model.family=swin", "model.family=3"])
def test_an_unknown_family_is_answered_with_the_known_ones(cover: Cover, work: Path, change: str) -> None:
    answer = cover("train", work / "recipe.toml", "--out", work / "none", "--set", change)
    known = ", ".join([*families.BUILT_IN, "toy"])
    assert answer.code == 2 and "unknown model family" in answer.err and f"the families are {known}" in answer.err


def test_a_plugin_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "plugged"

        def load(self) -> ToyFamily:
            family = ToyFamily()
            family.name = "plugged"
            return family

    monkeypatch.setattr(families, "_plugins", lambda: (Point(),))
    assert families.find_family("plugged").name == "plugged"
    assert families.family_names() == [*families.BUILT_IN, "toy", "plugged"]
