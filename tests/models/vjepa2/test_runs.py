"""`cover train` co-trains a V-JEPA 2 with an attentive head. tests/test_families.py has the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.family_runs import WriteMedia, train_whole_and_in_parts, write_mixture
from tests.models.vjepa2.vjepas import small_model
from tests.terminal import Cover, terminal

from cover.core.run_files import find_checkpoint

RECIPE = """
policy = "cotrain"

[model]
family = "vjepa2"
variant = "vjepa2_1_base"
depth = 2
width = 48
num_heads = 2
patch_size = 8
num_frames = 4
image_size = 32
drop_path_rate = 0.3
head = "attentive"
pooler_depth = 1
pooler_heads = 3

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
    return write_mixture(tmp_path_factory.mktemp("vjepa2"), RECIPE, write_video, write_image)


def test_an_attentive_head_trains_and_resumes_to_the_bit(cover: Cover, work: Path, tmp_path: Path) -> None:
    whole = train_whole_and_in_parts(cover, work, max_steps=4)
    config = json.loads((find_checkpoint(whole) / "config.json").read_text())
    assert config["pooler"]["depth"] == 1
    info = cover("info", whole).out
    assert "V-JEPA 2.1, joint attention, 2 blocks, width 48, 2 heads" in info and "attentive, 1 block" in info
    answer = cover("export", whole, tmp_path / "theirs", "--to", "transformers", "--head", "moves")
    assert answer.code == 2 and "transformers has V-JEPA 2, and this is V-JEPA 2.1" in answer.err


def test_a_frozen_backbone_keeps_its_weights_and_the_pooler_learns(cover: Cover, work: Path, tmp_path: Path) -> None:
    state = {f"module.backbone.{n}": t for n, t in small_model(head="linear", heads={}).state_dict().items()}
    torch.save({"target_encoder": state}, tmp_path / "vitl.pt")
    sets = (f"init={tmp_path / 'vitl.pt'}", "model.variant=vjepa2_large", "optimizer.backbone_rate=0",
            "training.max_steps=2", "model.drop_path_rate=0")  # fmt: skip
    overrides = [part for change in sets for part in ("--set", change)]
    plan = cover("train", work / "recipe.toml", "--out", tmp_path / "run", "--dry-run", *overrides).out
    assert "the backbone is frozen" in plan and "pooler" in plan
    assert cover("train", work / "recipe.toml", "--out", tmp_path / "run", *overrides).code == 0
    found = load_file(find_checkpoint(tmp_path / "run", "latest") / "model.safetensors")
    for name, tensor in state.items():
        assert torch.equal(found[name.removeprefix("module.backbone.")], tensor)
    assert found["pooler.blocks.0.attn.qkv.bias"].abs().max() > 0  # which starts at zero


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.pooler_heads=5", "pooler_heads 5 do not divide the 48 features of a token; use 4"),
        ("policy=probe init=runs/a", 'model.head "attentive" learns from all tokens; set data.cache_features = false'),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(cover: Cover, work: Path, change: str, message: str) -> None:
    changes = [part for key in change.split() for part in ("--set", key)]
    answer = cover("train", work / "recipe.toml", "--out", work / "none", "--dry-run", *changes)
    assert answer.code == 2 and message in answer.err


@pytest.mark.slow
@pytest.mark.parametrize("backbone_rate", [1.0, 0.0])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_what_one_does(cover: Cover, work: Path, parallel: str, backbone_rate: float) -> None:
    one, two = work / f"one-{parallel}-{backbone_rate}", work / f"two-{parallel}-{backbone_rate}"
    sets = "training.max_steps=4", f'training.parallel="{parallel}"', f"optimizer.backbone_rate={backbone_rate}"
    changes = [part for change in sets for part in ("--set", change)]
    cover("train", work / "recipe.toml", "--out", one, *changes)
    launch = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cover.cli"
    arguments = [sys.executable, *launch, "train", str(work / "recipe.toml"), "--out", str(two), *changes]
    subprocess.run(arguments, check=True, capture_output=True, timeout=300)
    expected, found = (load_file(find_checkpoint(run, "latest") / "model.safetensors") for run in (one, two))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-4, msg=lambda text: f"{name}: {text}")  # noqa: B023
