"""`cover train` co-trains a ViViT on videos and images, stops, resumes to the bit, and its runs are usable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.family_runs import WriteMedia, train_whole_and_in_parts, write_mixture
from tests.terminal import Cover, terminal

from cover.core.run_files import find_checkpoint

RECIPE = """
policy = "cotrain"

[model]
family = "vivit"
variant = "vivit_base"
attention = "factorised_encoder"
depth = 2
temporal_depth = 1
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
    return write_mixture(tmp_path_factory.mktemp("vivit"), RECIPE, write_video, write_image)


def test_it_trains_and_resumes_to_the_bit(cover: Cover, work: Path) -> None:
    whole = train_whole_and_in_parts(cover, work, max_steps=4)
    assert json.loads((find_checkpoint(whole) / "config.json").read_text())["model_type"] == "cover-vivit"
    assert "pets" in cover("evaluate", whole, "--split", "val").out
    assert "ViViT, factorised_encoder, 2 blocks, width 32, 2 heads, 1 temporal blocks" in cover("info", whole).out
    answer = cover("export", whole, work / "theirs", "--to", "transformers", "--head", "moves")
    assert answer.code == 2 and "transformers has only the joint ViViT" in answer.err


@pytest.mark.parametrize("attention", ["joint", "factorised_attention", "factorised_heads"])
def test_the_other_models_train(cover: Cover, work: Path, tmp_path: Path, attention: str) -> None:
    sets = (f"model.attention={attention}", "model.temporal_depth=4", "training.max_steps=1", "training.ema_decay=0")
    overrides = [part for change in sets for part in ("--set", change)]
    answer = cover("train", work / "recipe.toml", "--out", tmp_path / "run", *overrides)
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.num_frames=3", "num_frames 3 is not a multiple of 2, the frames of a ViViT's tubelet; use 2 or 4"),
        ("model.attention=divided", "model.attention"),
        ("model.attention=joint", "temporal_depth is 1, but joint has no temporal blocks; remove it"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(cover: Cover, work: Path, change: str, message: str) -> None:
    answer = cover("train", work / "recipe.toml", "--out", work / "none", "--dry-run", "--set", change)
    assert answer.code == 2 and message in answer.err
