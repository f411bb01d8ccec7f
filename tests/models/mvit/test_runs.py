"""An MViT trains on videos and images together, resumes to the bit, and is described and exported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.family_runs import WriteMedia, train_whole_and_in_parts, write_mixture
from tests.terminal import Cover, terminal

import cover as library
from cover.core.run_files import find_checkpoint
from cover.models.mvit.model import MViT

RECIPE = """
policy = "cotrain"

[model]
family = "mvit"
variant = "mvitv2_small"
width = 8
depths = [1, 2]
kv_stride = 4
num_frames = 5
image_size = 32
drop_path_rate = 0.2

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
backbone_rate = 0.2
schedule = "cosine"
learning_rate = 0.1

[training]
epochs = 4
ema_decay = 0.5
activation_checkpointing = 1
"""


@pytest.fixture
def cover(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cover:
    return terminal(capsys, monkeypatch)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, write_video: WriteMedia, write_image: WriteMedia) -> Path:
    """A recipe beside manifests of videos and images."""
    return write_mixture(tmp_path_factory.mktemp("mvit"), RECIPE, write_video, write_image)


def test_it_trains_and_resumes_to_the_bit(cover: Cover, work: Path) -> None:
    train_whole_and_in_parts(cover, work, max_steps=5)


def test_what_is_done_with_a_run_is_done_with_it(cover: Cover, work: Path, tmp_path: Path) -> None:
    run = work / "run"
    cover("train", work / "recipe.toml", "--out", run, "--set", "training.max_steps=2")
    assert "pets" in cover("evaluate", run, "--split", "val").out
    assert "MViT v2, 1 + 2 blocks" in cover("info", run).out
    cover("export", run, tmp_path / "ours", "--to", "safetensors")
    model = library.VideoClassifier.from_pretrained(tmp_path / "ours")
    assert isinstance(model.backbone, MViT)
    cover("export", run, tmp_path / "theirs", "--to", "torchvision", "--head", "moves")
    assert "torchvision's MViT" in cover("info", tmp_path / "theirs").out
    answer = cover("export", run, tmp_path / "none", "--to", "transformers", "--head", "moves")
    assert "transformers has no model of the family mvit; export with --to safetensors" in answer.err
    video = next((work / "moves").rglob("*.mp4"))
    answer = cover("explain", run, video, "--out", tmp_path / "seen", "--head", "moves")
    assert "models of the family mvit cannot be explained" in answer.err


def test_a_model_of_images_starts_a_model_of_videos(cover: Cover, work: Path) -> None:
    """The policy "pretrain" trains an image MViT. Its kernels get time when an MViT of videos starts from it."""
    image, video = work / "image", work / "video"
    parts = RECIPE.replace('"cotrain"', '"pretrain"').partition("[datasets.moves]")
    (work / "pretrain.toml").write_text(parts[0] + "[datasets.pets]" + parts[2].partition("[datasets.pets]")[2])
    answer = cover("train", work / "pretrain.toml", "--out", image, "--set", "training.max_steps=1")
    assert answer.code == 0, answer.err
    assert "image MViT v2" in cover("info", image).out
    changes = "--set", f"init={image}", "--set", "training.max_steps=1"
    answer = cover("train", work / "recipe.toml", "--out", video, *changes)
    assert answer.code == 0 and "resized" in answer.out, answer.err


@pytest.mark.slow
@pytest.mark.parametrize("format", ["torch-export", "onnx"])
def test_it_is_exported_as_a_file_that_runs_by_itself(cover: Cover, work: Path, tmp_path: Path, format: str) -> None:
    run = work / format
    cover("train", work / "recipe.toml", "--out", run, "--set", "training.max_steps=1")
    assert cover("export", run, tmp_path / "file", "--to", format).code == 0  # which compares the logits


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_what_one_does(cover: Cover, work: Path, parallel: str) -> None:
    one, two = work / f"one-{parallel}", work / f"two-{parallel}"
    changes = "--set", "training.max_steps=4", "--set", f'training.parallel="{parallel}"'
    cover("train", work / "recipe.toml", "--out", one, *changes)
    launch = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cover.cli"
    arguments = [sys.executable, *launch, "train", str(work / "recipe.toml"), "--out", str(two), *changes]
    subprocess.run(arguments, check=True, capture_output=True, timeout=300)
    expected, found = (load_file(find_checkpoint(run, "latest") / "model.safetensors") for run in (one, two))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-5)
