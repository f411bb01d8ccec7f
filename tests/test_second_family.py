"""A family of backbones that only registers itself trains, resumes, evaluates and exports like the first one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from examples.second_family import Toy, ToyFamily
from tests.family_runs import WriteMedia, train_whole_and_in_parts, write_mixture
from tests.terminal import Cover, terminal

import cover as library
from cover.config import families
from cover.core.run_files import find_checkpoint

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
    return write_mixture(tmp_path_factory.mktemp("toy"), RECIPE, write_video, write_image)


def test_it_trains_and_resumes_to_the_bit(cover: Cover, work: Path) -> None:
    whole = train_whole_and_in_parts(cover, work, max_steps=5)
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
    assert "has weights of toy, and model.family is timesformer; set it to toy" in answer.err


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
