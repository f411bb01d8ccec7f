from __future__ import annotations

import dataclasses
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from tests.processes import full_disk

from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe
from cover.core.run_files import RunFiles, find_checkpoint
from cover.errors import CheckpointError
from cover.models.checkpoints.integrity import damage, write_state
from cover.models.classifier import VideoClassifier, read_model
from cover.models.create import create_model
from cover.training.checkpoint import CheckpointWriter, TrainingState, read_training
from cover.training.engine import Engine
from cover.training.objective import Supervised


def recipe(name: str, **training: object) -> Recipe:
    return parse_recipe(
        {
            "policy": "standard",
            "datasets": {"k400": {"train": "none.arrow"}},
            "optimizer": {"name": name, "learning_rate": 0.1},
            "training": training,
        },
        "test",
    )


def engine_of(model: VideoClassifier, settings: Recipe) -> Engine:
    return Engine(model, Supervised(settings), settings, Accelerator(cpu=True))


def engine(name: str = "adamw", num_steps: int = 0, **training: object) -> Engine:
    """A tiny model after some steps of training."""
    torch.manual_seed(0)
    model = create_model("timesformer_tiny", depth=1, width=12, num_frames=2, image_size=32, heads={"k400": 3})
    made = engine_of(model, recipe(name, **training))
    for step in range(num_steps):
        take_step(made, step)
    return made


def take_step(made: Engine, step: int) -> None:
    torch.manual_seed(1)
    clips = torch.randint(256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    made.wrapped({"k400": clips})["k400"].logsumexp(-1).sum().backward()
    made.step(0.1, step)


def save(run: Path, made: Engine, state: TrainingState, *, best: bool = False, keep: int = 2) -> None:
    writer = CheckpointWriter(RunFiles(run), keep)
    writer.save(made.model.config, made.weights(), made.training_tensors(), state, best=best)
    writer.wait()


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_training_goes_on_from_a_checkpoint_as_if_never_stopped(
    tmp_path: Path, name: str, ema_decay: float | None
) -> None:
    trained = engine(name, num_steps=2, ema_decay=ema_decay)
    state = TrainingState(step=2, mixture_start=1, digests={"k400": "abc"}, best_score=0.25)
    save(tmp_path, trained, state)

    fresh = engine(name)
    fresh.model.load_state_dict(read_model(find_checkpoint(tmp_path)).state_dict())
    fresh = engine_of(fresh.model, recipe(name, ema_decay=ema_decay))
    restored, tensors = read_training(find_checkpoint(tmp_path))
    assert restored == state
    fresh.restore(tensors)
    for made in (trained, fresh):
        take_step(made, step=2)
    for weights in (Engine.weights, lambda made: dict(made.model.named_parameters())):
        for key, tensor in weights(trained).items():
            assert torch.equal(tensor, weights(fresh)[key]), key


def test_a_checkpoint_holds_the_averaged_weights_and_the_last(tmp_path: Path) -> None:
    trained = engine("sgd", num_steps=3, ema_decay=0.5)
    save(tmp_path, trained, TrainingState(step=3))
    start, expected = engine("sgd"), engine("sgd").model.state_dict()
    for step in range(3):
        take_step(start, step)
        decay = min(0.5, (2 + step) / (11 + step))
        for key, tensor in start.model.state_dict().items():
            expected[key] = decay * expected[key] + (1 - decay) * tensor.detach()
    averaged = read_model(find_checkpoint(tmp_path)).state_dict()
    last = read_training(find_checkpoint(tmp_path))[1]
    for key, tensor in start.model.state_dict().items():
        torch.testing.assert_close(averaged[key], expected[key].detach())
        assert torch.equal(last[f"weights/{key}"], tensor)


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    made = engine()
    for step in (1, 2, 3, 4, 10):
        save(tmp_path, made, TrainingState(step=step), best=step == 2)
    assert [folder.name for folder in RunFiles(tmp_path).checkpoints()] == ["step-10", "step-4", "step-2"]
    assert find_checkpoint(tmp_path).name == "step-2"
    assert find_checkpoint(tmp_path, "latest").name == "step-10"
    assert find_checkpoint(tmp_path / "checkpoints" / "step-4").name == "step-4"
    assert sorted(file.name for file in find_checkpoint(tmp_path).iterdir()) == [
        "config.json",
        "model.safetensors",
        "state.json",
        "training.safetensors",
    ]


def test_copies_and_links_among_the_checkpoints_are_left_alone(tmp_path: Path) -> None:
    made, folder = engine(), tmp_path / "run" / "checkpoints"
    save(tmp_path / "run", made, TrainingState(step=1))
    for name in ("step-1.bak", "step-1 (copy)", "step-0001", "step-"):
        shutil.copytree(folder / "step-1", folder / name)
    (folder / "step-1").rename(tmp_path / "elsewhere")
    (folder / "step-1").symlink_to(tmp_path / "elsewhere")
    assert [found.name for found in RunFiles(tmp_path / "run").checkpoints()] == ["step-1"]
    for step in (2, 3):
        save(tmp_path / "run", made, TrainingState(step=step))
    assert [found.name for found in RunFiles(tmp_path / "run").checkpoints()] == ["step-3", "step-2"]
    assert (tmp_path / "elsewhere" / "model.safetensors").exists() and (folder / "step-1.bak").exists()


def test_what_a_killed_process_left_behind_is_removed(tmp_path: Path) -> None:
    (half := tmp_path / "checkpoints" / ".step-1.part").mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"cut sh")
    save(tmp_path, engine(), TrainingState(step=1))
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["step-1"]


def test_damaged_checkpoints_are_recognised(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint; give the folder of a run"):
        find_checkpoint(tmp_path)
    save(tmp_path, engine(), TrainingState(step=1))
    folder = find_checkpoint(tmp_path)
    assert damage(folder) is None
    (weights := folder / "model.safetensors").write_bytes(weights.read_bytes()[:100])
    assert str(damage(folder)).startswith("model.safetensors has 100 of ")
    (folder / "training.safetensors").write_bytes(b"cut sh")
    with pytest.raises(CheckpointError, match=r"step-1 cannot be resumed .*start again without --resume"):
        read_training(folder)
    (folder / "state.json").write_text(json.dumps({"step": 1})[:-1])
    assert damage(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "config.json", "state.json"])
def test_one_flipped_bit_is_recognised(tmp_path: Path, name: str) -> None:
    save(tmp_path, engine(), TrainingState(step=1, digests={"k400": "0f"}))
    folder = find_checkpoint(tmp_path)
    content = (folder / name).read_bytes()
    for place in random.Random(0).sample(range(8 * len(content)), 25):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        (folder / name).write_bytes(flipped)
        assert damage(folder), place
        if name in ("model.safetensors", "config.json"):
            with pytest.raises(CheckpointError, match=r"step-1 is damaged \(.*\); use another checkpoint of the run"):
                read_model(folder)
    (folder / name).write_bytes(content)
    assert damage(folder) is None


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "config.json", "state.json"])
def test_a_file_of_another_step_is_recognised(tmp_path: Path, name: str) -> None:
    for step in (1, 2):
        made = engine(num_steps=step)
        made.model.backbone.config = dataclasses.replace(made.model.config, drop_path_rate=step / 10)
        save(tmp_path, made, TrainingState(step=step, best_score=step / 10))
    first, second = (tmp_path / "checkpoints" / f"step-{step}" for step in (1, 2))
    shutil.copy(first / name, second / name)
    assert damage(second) == (
        "state.json belongs to step 1" if name == "state.json" else f"{name} has changed since it was written"
    )
    for file in first.iterdir():
        shutil.copy(file, second)
    assert damage(second) == "state.json belongs to step 1"


def test_a_checkpoint_of_an_older_version_is_known_by_sizes(tmp_path: Path) -> None:
    save(tmp_path, engine(), TrainingState(step=1))
    folder = find_checkpoint(tmp_path)
    values = json.loads((folder / "state.json").read_text())
    sizes = {name: file["num_bytes"] for name, file in values.pop("files").items()}
    del values["digest"]
    (folder / "state.json").write_text(json.dumps(values | {"sizes_bytes": sizes}))
    assert damage(folder) is None
    assert read_training(folder)[0] == TrainingState(step=1)
    (folder / "model.safetensors").write_bytes(b"cut sh")
    assert str(damage(folder)).startswith("model.safetensors has 6 of ")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": -1}, "Input should be greater than or equal to 0"),
        ({"step": "1"}, "Input should be a valid integer"),
        ({"digests": [1]}, "Input should be an object"),
        ({"unknown": 1}, "unknown key 'unknown': another version of cover wrote it"),
        ({"best_score": "high"}, "Input should be a valid number"),
        ({"best_score": float("nan")}, "Out of range float values are not JSON compliant"),
    ],
)
def test_a_state_of_wrong_values_is_one_line(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    folder = tmp_path / "step"
    folder.mkdir()
    save_file({}, folder / "training.safetensors")
    write_state(folder, dataclasses.asdict(TrainingState()) | change)
    with pytest.raises(CheckpointError, match=re.escape(f"step cannot be resumed ({reason}); start again without")):
        read_training(folder)


def test_a_full_disk_leaves_the_checkpoint_before_intact(tmp_path: Path) -> None:
    made, run = engine(), tmp_path / "run"
    save(run, made, TrainingState(step=1))
    with full_disk(20_000), pytest.raises(CheckpointError) as caught:
        save(run, made, TrainingState(step=2))
    assert str(caught.value) == (
        f"a checkpoint cannot be written to {run} (File too large); then continue from the last complete checkpoint "
        "with --resume"
    )
    assert [folder.name for folder in (run / "checkpoints").iterdir()] == ["step-1"]
    assert damage(find_checkpoint(run, "latest")) is None
