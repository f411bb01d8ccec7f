"""A model on disk: config.json (architecture, heads, normalisation) beside model.safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
from cover.models.config import ModelConfig, PoolerConfig
from cover.models.family import backbone_family

MODEL_TYPE = "cover-"
"""The start of `model_type` in our config.json. The name of the family follows."""
FLOAT_TYPES = ("float64", "float32", "float16", "bfloat16")
"""The types of weights that we load."""


def save_weights(config: ModelConfig, tensors: dict[str, Tensor], folder: Path) -> None:
    """Write config.json and model.safetensors.

    Args:
        config: The configuration of the model.
        tensors: Contiguous tensors, by the names of the model's state dict.
        folder: Created if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = {"model_type": MODEL_TYPE + config.family} | config.as_dict()
    (folder / CONFIG_FILE).write_text(json.dumps(values, indent=2) + "\n")
    save_tensors(tensors, folder / WEIGHTS_FILE)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file with the permissions of any new file. safetensors itself lets only its owner read it.

    Args:
        tensors: Contiguous tensors by name.
        path: The file.
        metadata: Texts for the header.
    """
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, metadata)
    path.chmod(mode)


def read_config(folder: Path) -> ModelConfig:
    """Read the configuration saved in a folder.

    Raises:
        CheckpointError: It is missing, damaged or not written by cover.
    """
    path = folder / CONFIG_FILE
    try:
        values = read_json(path)
        json.dumps(values, ensure_ascii=False).encode()  # fails for half a surrogate pair, which cannot be printed
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no {CONFIG_FILE}; give a run folder or one of its checkpoints") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read ({reason}); use another checkpoint of the run") from None
    kind = values.pop("model_type", None) if isinstance(values, dict) else None
    if not isinstance(kind, str) or not kind.startswith(MODEL_TYPE):
        raise CheckpointError(f"{path} is not the configuration of a cover model; give a folder written by cover")
    try:
        family = backbone_family(kind.removeprefix(MODEL_TYPE))
        values["heads"] = {name: _names(name, names) for name, names in dict(values["heads"]).items()}
        values.setdefault("sigmoid_heads", [])
        for name in ("mean", "std", "sigmoid_heads"):
            values[name] = tuple(values[name]) if isinstance(values[name], list) else values[name]
        if values.get("pooler") is not None:
            values["pooler"] = PoolerConfig(**values["pooler"])
        return family.config(**values)
    except (CoverError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({brief(error)}); use another checkpoint of the run") from None


def _names(head: str, names: object) -> tuple[str, ...]:
    """Check class names from a config.json. Two may be equal: ImageNet has "crane" twice."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CoverError(f"the classes of head {head[:50]!r} are not a list of names")
    return tuple(names)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read the weights saved in a folder.

    Returns:
        float32 tensors, by name.

    Raises:
        CheckpointError: The file is missing or damaged, or its numbers are not weights (see `check_numbers`).
    """
    path = folder / WEIGHTS_FILE
    try:
        if not path.is_file():
            raise OSError("no such file")
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({brief(error)}); use another checkpoint of the run") from None
    for name, tensor in tensors.items():
        check_numbers(path, name, str(tensor.dtype).removeprefix("torch."))
    return {name: tensor.float() for name, tensor in tensors.items()}


def check_numbers(path: Path, name: str, type: str) -> None:
    """Check that a tensor has a type that we can load as float32.

    Args:
        path: The file, for the message.
        name: The tensor.
        type: The name of its type, as in torch.

    Raises:
        CheckpointError: It is not one of FLOAT_TYPES.
    """
    if type not in FLOAT_TYPES:
        raise CheckpointError(
            f"{path}: {name} is {type}, but weights must be {', '.join(FLOAT_TYPES)}; use the weights from before they "
            "were quantised or converted"
        )


def check_finite(path: Path, name: str, tensor: Tensor) -> None:
    """Check that a tensor has no NaN or infinite values.

    A minimum or maximum is NaN if any value is NaN. `isfinite` of the whole tensor would need much more memory.

    Args:
        path: The file, for the message.
        name: The name of the tensor.
        tensor: Its values.

    Raises:
        CheckpointError: It has such values.
    """
    if not all(torch.stack(rows.aminmax()).isfinite().all() for rows in tensor.chunk(16)):
        raise CheckpointError(f"{path}: {name} has values that are NaN or infinite; use another copy of the file")


def check_files(folder: Path) -> None:
    """Check that the model's files in a checkpoint are as they were written.

    Args:
        folder: A checkpoint, or any folder with a model. A folder without state.json is not checked.

    Raises:
        CheckpointError: They are damaged.
    """
    if (folder / STATE_FILE).exists() and (fault := damage(folder, (CONFIG_FILE, WEIGHTS_FILE))):
        raise CheckpointError(f"{folder} is damaged ({fault}); use another checkpoint of the run")


def load_exactly(model: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Load weights into a model of exactly their architecture.

    Args:
        model: May be on the meta device, because its parameters are replaced.
        tensors: Weights, by the names of the model's state dict.
        source: Where they come from, for the message.

    Raises:
        CheckpointError: A tensor is absent, or has another shape. The message names the first one.
    """
    expected = model.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        have, want = (list(state[name].shape) if name in state else None for state in (tensors, expected))
        if have != want:
            raise CheckpointError(
                f"{source} is of another architecture: {name} is {have or 'absent'}, "
                f"this model has {want or 'no such weight'}; use the recipe that it was trained with"
            )
    model.load_state_dict(tensors, assign=True)
