"""A model on disk: config.json (architecture, heads, normalisation) beside model.safetensors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cover.errors import CheckpointError, CoverError
from cover.models.config import ModelConfig
from cover.models.integrity import STATE_FILE, damage
from cover.models.timesformer import TimeSformer

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
MODEL_TYPE = "cover-timesformer"
LATEST, BEST = "latest", "best"
"""Files of a run folder that name its newest checkpoint, and the one with the highest mean validation top-1."""


def find_checkpoint(path: Path, pointer: str = BEST) -> Path:
    """The checkpoint folder for a path that is one itself, or a run: its best, or its latest where there is no best.

    Raises CheckpointError when there is none.
    """
    if (path / CONFIG_FILE).exists():
        return path
    for candidate in (pointer, LATEST):
        if (path / candidate).exists():
            return path / "checkpoints" / (path / candidate).read_text().strip()
    raise CheckpointError(f"{path} holds no checkpoint; give the folder of a run that `cover train` has written")


def save_model(model: TimeSformer, folder: Path) -> None:
    """Write config.json and model.safetensors."""
    save_weights(model.config, {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder)


def save_weights(config: ModelConfig, tensors: dict[str, Tensor], folder: Path) -> None:
    """Write config.json and, of tensors that are contiguous, model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"model_type": MODEL_TYPE} | dataclasses.asdict(config)
    (folder / CONFIG_FILE).write_text(json.dumps(values, indent=2) + "\n")
    save_file(tensors, folder / WEIGHTS_FILE)


def read_config(folder: Path) -> ModelConfig:
    """The configuration saved in a folder. Raises CheckpointError when it is missing or not ours."""
    path = folder / CONFIG_FILE
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no {CONFIG_FILE}; give a run folder or one of its checkpoints") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); take another checkpoint of the run") from None
    if not isinstance(values, dict) or values.pop("model_type", None) != MODEL_TYPE:
        raise CheckpointError(f"{path} is not the configuration of a cover model; give a folder that cover has written")
    try:
        values["heads"] = {name: tuple(names) for name, names in values["heads"].items()}
        for name in ("mean", "std"):
            values[name] = tuple(values[name])
        return ModelConfig(**values)
    except (CoverError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); take another checkpoint of the run") from None


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The weights saved in a folder. Raises CheckpointError when the file is missing or damaged."""
    path = folder / WEIGHTS_FILE
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); take another checkpoint of the run") from None


def check_files(folder: Path) -> None:
    """Raise CheckpointError where the model's files in a checkpoint are not those that were written."""
    if (folder / STATE_FILE).exists() and (fault := damage(folder, (CONFIG_FILE, WEIGHTS_FILE))):
        raise CheckpointError(f"{folder} is damaged ({fault}); take another checkpoint of the run")


def load_model(folder: Path) -> TimeSformer:
    """The model saved in a folder, in evaluation mode. Raises CheckpointError."""
    check_files(folder)
    with torch.device("meta"):
        model = TimeSformer(read_config(folder))
    load_exactly(model, read_tensors(folder), folder)
    normalise_as(model, model.config)
    return model.eval()


def normalise_as(model: TimeSformer, config: ModelConfig) -> None:
    """Let a model take over the input normalisation of the weights that it was given."""
    device = model.pos_embed.device
    model.config = dataclasses.replace(model.config, mean=config.mean, std=config.std)
    model.mean = torch.tensor(config.mean, device=device).view(-1, 1, 1)
    model.std = torch.tensor(config.std, device=device).view(-1, 1, 1)


def load_exactly(model: TimeSformer, tensors: dict[str, Tensor], source: Path) -> None:
    """Put weights of the very same architecture in place. Raises CheckpointError naming the first that differs."""
    expected = model.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        have, want = (list(state[name].shape) if name in state else None for state in (tensors, expected))
        if have != want:
            raise CheckpointError(
                f"{source} is of another architecture: {name} is {have or 'absent'}, "
                f"this model has {want or 'no such weight'}; use the recipe that it was trained with"
            )
    model.load_state_dict(tensors, assign=True)
