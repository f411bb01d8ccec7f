"""`cover train` co-trains a VideoMAE on videos and images, stops, resumes to the bit, and its runs are usable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.family_runs import WriteMedia, train_whole_and_in_parts, write_mixture
from tests.models.foreign import create_vit, timm_state
from tests.terminal import Cover, terminal

from cover.core.run_files import find_checkpoint

RECIPE = """
policy = "cotrain"

[model]
family = "videomae"
variant = "videomae_small"
depth = 2
width = 32
num_heads = 2
num_frames = 4
image_size = 32
drop_path_rate = 0.3

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
name = "adamw"
layer_decay = 0.75
learning_rate = 0.001

[training]
epochs = 3
ema_decay = 0.5
activation_checkpointing = 1
micro_batches = 2
"""


@pytest.fixture
def cover(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cover:
    return terminal(capsys, monkeypatch)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, write_video: WriteMedia, write_image: WriteMedia) -> Path:
    """A recipe beside manifests of videos and images."""
    return write_mixture(tmp_path_factory.mktemp("videomae"), RECIPE, write_video, write_image)


def test_it_trains_and_resumes_to_the_bit(cover: Cover, work: Path, tmp_path: Path) -> None:
    whole = train_whole_and_in_parts(cover, work, max_steps=4)
    assert json.loads((find_checkpoint(whole) / "config.json").read_text())["model_type"] == "cover-videomae"
    assert "pets" in cover("evaluate", whole, "--split", "val").out
    assert "VideoMAE, joint attention, 2 blocks, width 32, 2 heads" in cover("info", whole).out
    cover("export", whole, tmp_path / "theirs", "--to", "transformers", "--head", "moves")
    assert "2 classes: left, right" in cover("info", tmp_path / "theirs").out
    video = next((work / "moves").rglob("*.mp4"))
    answer = cover("explain", whole, video, "--out", tmp_path / "seen", "--head", "moves")
    assert answer.code == 2 and "models of the family videomae cannot be explained" in answer.err


def test_a_run_starts_from_an_image_model(cover: Cover, work: Path, tmp_path: Path) -> None:
    torch.save(timm_state(create_vit()), tmp_path / "vit.pth")
    sets = (f"init={tmp_path / 'vit.pth'}", "model.width=128", "training.max_steps=1", "training.ema_decay=0")
    overrides = [part for change in sets for part in ("--set", change)]
    assert cover("train", work / "recipe.toml", "--out", tmp_path / "run", "--dry-run", *overrides).code == 0
    answer = cover("train", work / "recipe.toml", "--out", tmp_path / "run", *overrides)
    assert answer.code == 0 and "tensors: 30 loaded, 4 fresh" in answer.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.num_frames=3", "num_frames 3 is not a multiple of 2, the frames of a VideoMAE's tubelet; use 2 or 4"),
        ("model.attention=joint", "model.attention"),
        ("model.variant=timesformer_base", "model.variant"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(cover: Cover, work: Path, change: str, message: str) -> None:
    answer = cover("train", work / "recipe.toml", "--out", work / "none", "--dry-run", "--set", change)
    assert answer.code == 2 and message in answer.err
