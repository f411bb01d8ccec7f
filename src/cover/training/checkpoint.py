"""Checkpoints in a run folder: written aside and renamed, so that a checkpoint which exists is complete.

RUN/latest                          name of the newest checkpoint
RUN/best                            name of the one with the highest mean validation top-1
RUN/checkpoints/step-1200/
    model.safetensors, config.json  the model: what evaluate and predict read
    optimizer.safetensors           one tensor "state/parameter" for each state of each parameter
    state.json                      the rest: step, mixture, scores
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cover.errors import CheckpointError
from cover.models.timesformer import TimeSformer
from cover.models.weights import BEST, LATEST, save_model


@dataclass
class TrainingState:
    """Everything about a run's position that is not a tensor.

    step: completed steps. optimizer: its name in the recipe. mixture_start: the step at which the present mixture
    began (not 0 only after the data of the run were changed). digests: of each dataset's training manifest.
    best_top1: highest mean validation top-1. seconds: wall time so far, validation included.
    """

    step: int = 0
    optimizer: str = ""
    mixture_start: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    best_top1: float = -1.0
    seconds: float = 0.0
    grad_scaler: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(run: Path, model: TimeSformer, optimizer: torch.optim.Optimizer, state: TrainingState) -> str:
    """Write checkpoint step-N, point `latest` at it and return its name."""
    name = f"step-{state.step}"
    folder = run / "checkpoints" / name
    aside = folder.with_name(f".{name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    save_model(model, aside)
    save_file(_optimizer_tensors(model, optimizer), aside / "optimizer.safetensors")
    (aside / "state.json").write_text(json.dumps(asdict(state), indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    point(run, LATEST, name)
    return name


def point(run: Path, pointer: str, name: str) -> None:
    """Make RUN/latest or RUN/best name a checkpoint."""
    aside = run / f".{pointer}.part"
    aside.write_text(name + "\n")
    aside.replace(run / pointer)


def prune(run: Path) -> None:
    """Delete the checkpoints that neither `latest` nor `best` names."""
    kept = {(run / pointer).read_text().strip() for pointer in (LATEST, BEST) if (run / pointer).exists()}
    for folder in (run / "checkpoints").glob("step-*"):
        if folder.name not in kept:
            shutil.rmtree(folder)


def restore(folder: Path, model: TimeSformer, optimizer: torch.optim.Optimizer) -> TrainingState:
    """Load the optimizer's state and return the training state. Raises CheckpointError when damaged."""
    try:
        state = TrainingState(**json.loads((folder / "state.json").read_text()))
        tensors = load_file(folder / "optimizer.safetensors")
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be resumed ({error}); start again without --resume") from None
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        kind, name = key.split("/", 1)
        parameter = parameters[name]
        on_device = tensor if tensor.ndim == 0 else tensor.to(parameter.device)
        optimizer.state[parameter][kind] = on_device
    return state


def _optimizer_tensors(model: TimeSformer, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{kind}/{name}": value.contiguous()
        for name, parameter in model.named_parameters()
        for kind, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
