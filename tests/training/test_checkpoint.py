from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cover.errors import CheckpointError
from cover.models.create import create_model
from cover.models.timesformer import TimeSformer
from cover.models.weights import BEST, find_checkpoint, load_model
from cover.recipe import OptimizerSection
from cover.training.checkpoint import TrainingState, point, prune, restore, save_checkpoint
from cover.training.optimizer import create_optimizer


def model_and_optimizer(name: str = "adamw", num_steps: int = 0) -> tuple[TimeSformer, torch.optim.Optimizer]:
    """A tiny model after some steps of training."""
    torch.manual_seed(0)
    model = create_model("timesformer_tiny", depth=1, width=12, num_frames=2, image_size=32, heads={"k400": 3})
    optimizer = create_optimizer(model, OptimizerSection.model_validate({"name": name, "learning_rate": 0.1}))
    for _ in range(num_steps):
        take_step(model, optimizer)
    return model, optimizer


def take_step(model: TimeSformer, optimizer: torch.optim.Optimizer) -> None:
    torch.manual_seed(1)
    clips = torch.randint(256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    model({"k400": clips})["k400"].logsumexp(-1).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_training_goes_on_from_a_checkpoint_as_if_never_stopped(tmp_path: Path, name: str) -> None:
    model, optimizer = model_and_optimizer(name, num_steps=2)
    state = TrainingState(step=2, mixture_start=1, digests={"k400": "abc"}, best_top1=0.25)
    assert save_checkpoint(tmp_path, model, optimizer, state) == "step-2"

    fresh, fresh_optimizer = model_and_optimizer(name)
    folder = find_checkpoint(tmp_path)
    fresh.load_state_dict(load_model(folder).state_dict())
    assert restore(folder, fresh, fresh_optimizer) == state
    for pair in ((model, optimizer), (fresh, fresh_optimizer)):
        take_step(*pair)
    for parameter, other in zip(model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(parameter, other)


def test_pointers_and_prune_keep_the_best_and_the_latest(tmp_path: Path) -> None:
    model, optimizer = model_and_optimizer()
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, model, optimizer, TrainingState(step=step))
        if step == 2:
            point(tmp_path, BEST, "step-2")
    prune(tmp_path)
    assert sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir()) == ["step-2", "step-4"]
    assert find_checkpoint(tmp_path).name == "step-2"
    assert find_checkpoint(tmp_path, "latest").name == "step-4"
    assert find_checkpoint(tmp_path / "checkpoints" / "step-2").name == "step-2"
    assert sorted(file.name for file in find_checkpoint(tmp_path).iterdir()) == [
        "config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    """As after an interruption between a checkpoint and its pointer, which leaves a half-written one too."""
    model, optimizer = model_and_optimizer()
    save_checkpoint(tmp_path, model, optimizer, TrainingState(step=1))
    (tmp_path / "checkpoints" / ".step-1.part").mkdir()
    (tmp_path / "checkpoints" / ".step-1.part" / "rest").touch()
    save_checkpoint(tmp_path, model, optimizer, TrainingState(step=1, best_top1=0.5))
    assert restore(find_checkpoint(tmp_path), model, optimizer).best_top1 == 0.5
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["step-1"]


def test_no_checkpoint_and_damaged_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint; give the folder of a run"):
        find_checkpoint(tmp_path)
    model, optimizer = model_and_optimizer()
    save_checkpoint(tmp_path, model, optimizer, TrainingState(step=1))
    (folder := find_checkpoint(tmp_path)).joinpath("optimizer.safetensors").write_bytes(b"cut sh")
    with pytest.raises(CheckpointError, match=r"step-1 cannot be resumed .*start again without --resume"):
        restore(folder, model, optimizer)
