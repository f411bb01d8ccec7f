"""A model on disk: config.json (architecture, heads, normalisation) beside model.safetensors."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cover.errors import CheckpointError
from cover.models.config import ModelConfig
from cover.models.create import TemporalInit
from cover.models.embeddings import resize_pos_embed, time_embed_for
from cover.models.timesformer import TimeSformer

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


@dataclass
class LoadReport:
    """What became of every parameter when weights were loaded into another model."""

    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{len(getattr(self, f.name))} {f.name}" for f in dataclasses.fields(self) if getattr(self, f.name)]
        return "tensors: " + ", ".join(parts)


def save_model(model: TimeSformer, folder: Path, state: dict[str, Tensor] | None = None) -> None:
    """Write config.json and model.safetensors. state: other weights of the same model, e.g. their moving average."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "cover-timesformer"} | dataclasses.asdict(model.config)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    tensors = model.state_dict() if state is None else state
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS_FILE)


def read_config(folder: Path) -> ModelConfig:
    """The configuration saved in a folder. Raises CheckpointError when it is missing or not ours."""
    path = folder / CONFIG_FILE
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no {CONFIG_FILE}; give a run folder or one of its checkpoints") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); take another checkpoint of the run") from None
    if not isinstance(values, dict) or values.pop("model_type", None) != "cover-timesformer":
        raise CheckpointError(f"{path} is not the configuration of a cover model; give a folder that cover has written")
    values["heads"] = {name: tuple(names) for name, names in values["heads"].items()}
    for name in ("mean", "std"):
        values[name] = tuple(values[name])
    return ModelConfig(**values)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The weights saved in a folder. Raises CheckpointError when the file is missing or damaged."""
    path = folder / WEIGHTS_FILE
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); take another checkpoint of the run") from None


def load_model(folder: Path) -> TimeSformer:
    """The model saved in a folder, in evaluation mode. Raises CheckpointError."""
    with torch.device("meta"):
        model = TimeSformer(read_config(folder))
    load_exactly(model, read_tensors(folder), folder)
    for name in ("mean", "std"):
        setattr(model, name, torch.tensor(getattr(model.config, name)).view(-1, 1, 1))
    return model.eval()


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


def init_from(model: TimeSformer, folder: Path, temporal_init: TemporalInit) -> LoadReport:
    """Start a model from the weights in a folder, adapting what differs.

    Embeddings are resized. A source without temporal layers seeds them from its spatial ones (temporal norm and
    attention copied; temporal_fc stays as created). Heads are taken where dataset and classes agree.
    Raises CheckpointError when the widths or depths differ.
    """
    config, tensors = read_config(folder), read_tensors(folder)
    for name in ("depth", "width", "patch_size_px"):
        have, want = getattr(config, name), getattr(model.config, name)
        if have != want:
            raise CheckpointError(f"init = {str(folder)!r} has {name} {have}, this model has {want}; make them equal")
    report = LoadReport()
    adapted: dict[str, Tensor] = {}
    for name, target in model.state_dict().items():
        spatial = _spatial_source(name)
        if name.startswith("heads.") and not _same_head(name, config, model.config):
            report.fresh.append(name)
        elif name in tensors:
            adapted[name] = _resize(name, tensors[name], target)
            (report.loaded if adapted[name] is tensors[name] else report.resized).append(name)
        elif spatial in tensors and (temporal_init == "zero" or "norm" in name):
            adapted[name] = tensors[spatial]
            report.copied.append(name)
        else:
            report.fresh.append(name)
    report.unused = sorted(tensors.keys() - adapted.keys())
    model.load_state_dict(adapted, strict=False)
    return report


def _same_head(name: str, source: ModelConfig, target: ModelConfig) -> bool:
    dataset = name.split(".")[1]
    return source.heads.get(dataset) == target.heads[dataset]


def _spatial_source(name: str) -> str:
    return re.sub(r"\.temporal_(attn|norm1)\.", lambda match: f".{match[1]}.", name)


def _resize(name: str, source: Tensor, target: Tensor) -> Tensor:
    if source.shape == target.shape:
        return source
    if name == "pos_embed":
        side = int((target.shape[1] - 1) ** 0.5)
        return resize_pos_embed(source, (side, side))
    return time_embed_for(source, target.shape[1])
