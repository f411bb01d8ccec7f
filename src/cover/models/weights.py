"""A model on disk: config.json (architecture, heads, normalisation) beside model.safetensors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cover.core.run_files import CONFIG_FILE, STATE_FILE, WEIGHTS_FILE
from cover.core.text_files import read_json
from cover.errors import CheckpointError, CoverError
from cover.models.checkpoints.integrity import damage
from cover.models.checkpoints.tensor_files import brief
from cover.models.config import ModelConfig
from cover.models.family import backbone_family

MODEL_TYPE = "cover-"
"""What `model_type` in our config.json begins with; the name of the family follows."""
FLOAT_TYPES = ("float64", "float32", "float16", "bfloat16")
"""Types of weights that are read."""


def save_weights(config: ModelConfig, tensors: dict[str, Tensor], folder: Path) -> None:
    """Write config.json and, of tensors that are contiguous, model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"model_type": MODEL_TYPE + config.family} | dataclasses.asdict(config)
    (folder / CONFIG_FILE).write_text(json.dumps(values, indent=2) + "\n")
    save_file(tensors, folder / WEIGHTS_FILE)


def read_config(folder: Path) -> ModelConfig:
    """The configuration saved in a folder. Raises CheckpointError when it is missing, damaged or not ours."""
    path = folder / CONFIG_FILE
    try:
        values = read_json(path)
        json.dumps(values, ensure_ascii=False).encode()  # half a surrogate pair is a string that cannot be printed
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no {CONFIG_FILE}; give a run folder or one of its checkpoints") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read ({reason}); take another checkpoint of the run") from None
    kind = values.pop("model_type", None) if isinstance(values, dict) else None
    if not isinstance(kind, str) or not kind.startswith(MODEL_TYPE):
        raise CheckpointError(f"{path} is not the configuration of a cover model; give a folder that cover has written")
    try:
        family = backbone_family(kind.removeprefix(MODEL_TYPE))
        values["heads"] = {name: _names(name, names) for name, names in dict(values["heads"]).items()}
        for name in ("mean", "std"):
            values[name] = tuple(values[name]) if isinstance(values[name], list) else values[name]
        return family.config(**values)
    except (CoverError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({brief(error)}); take another checkpoint of the run") from None


def _names(head: str, names: object) -> tuple[str, ...]:
    """Class names as `save_weights` has written them. Two may be equal: ImageNet has a crane twice."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CoverError(f"the classes of head {head[:50]!r} are not a list of names")
    return tuple(names)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The weights saved in a folder, as float32. Raises CheckpointError when the file is missing or damaged, or holds
    other numbers than weights."""
    path = folder / WEIGHTS_FILE
    try:
        if not path.is_file():
            raise OSError("no such file")
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({brief(error)}); take another checkpoint of the run") from None
    for name, tensor in tensors.items():
        check_numbers(path, name, str(tensor.dtype).removeprefix("torch."))
    return {name: tensor.float() for name, tensor in tensors.items()}


def check_numbers(path: Path, name: str, type: str) -> None:
    """Raise CheckpointError unless a tensor's numbers are of a type that weights have; it is converted to float32."""
    if type not in FLOAT_TYPES:
        raise CheckpointError(
            f"{path}: {name} holds {type}, and what can be read is {', '.join(FLOAT_TYPES)}; take the weights as they "
            "were before they were quantised or converted"
        )


def check_finite(path: Path, name: str, tensor: Tensor) -> None:
    """Raise CheckpointError for NaN and infinity.

    NaN wins minimum and maximum; `isfinite` on all of a tensor would need the memory of another.
    """
    if not all(torch.stack(rows.aminmax()).isfinite().all() for rows in tensor.chunk(16)):
        raise CheckpointError(f"{path}: {name} has values that are NaN or infinite; take another copy of it")


def check_files(folder: Path) -> None:
    """Raise CheckpointError where the model's files in a checkpoint are not those that were written."""
    if (folder / STATE_FILE).exists() and (fault := damage(folder, (CONFIG_FILE, WEIGHTS_FILE))):
        raise CheckpointError(f"{folder} is damaged ({fault}); take another checkpoint of the run")


def load_exactly(model: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
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
