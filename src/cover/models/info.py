"""What is in a file of weights: architecture, size, cost, heads, input, origin. No weight is read, no model built."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from cover.models.checkpoints.naming import HEAD
from cover.models.config import ModelConfig
from cover.models.sources import ORIGINS, open_source

SHOWN_CLASSES = 4
SHOWN_NAMES = 6


@dataclass(frozen=True)
class Info:
    """What `cover info` tells.

    origin: where the weights come from. multiply_adds: of one view (num_frames frames of image_size_px) through the
    model and all its heads. sampling: how frames and views are taken, as far as the file tells. unused: the file's
    tensors that have no place in a TimeSformer. not_stated: fields of config that the file says nothing about; the
    number of attention heads is null then. choice: of a file with several models, which this one is.
    """

    path: str
    format: str
    origin: str
    config: ModelConfig
    num_parameters: int
    multiply_adds: int
    sampling: str
    unused: tuple[str, ...]
    not_stated: tuple[str, ...] = ()
    choice: str | None = None

    def to_json(self) -> str:
        """The same as JSON, with every class name."""
        values = asdict(self)
        if "num_heads" in self.not_stated:
            values["config"]["num_heads"] = None
        return json.dumps(values, indent=2, ensure_ascii=False)


def describe(path: str | Path) -> Info:
    """Look into a file or folder of any format that open_source knows. Raises CheckpointError."""
    source = open_source(path)
    return Info(
        path=str(source.path),
        format=source.format,
        origin=ORIGINS[source.format],
        config=source.config,
        num_parameters=sum(math.prod(shape) for shape in source.shapes.values()),
        multiply_adds=multiply_adds(source.config),
        sampling="not stated by the file",
        unused=source.unused,
        not_stated=tuple(sorted(source.not_stated)),
        choice=source.choice if source.others else None,
    )


def multiply_adds(config: ModelConfig) -> int:
    """Multiply-adds of one view, each layer counted as published.

    A linear layer takes tokens · in · out, attention 2 · sequences · length² · width; norms, GELU and softmax are not
    counted. What this model computes differs by a few per cent: it forms the product of two temporal layers, keeps a
    class token in every frame, and of the last block computes what the class token needs.
    """
    num_frames, num_patches, width = config.num_frames, config.grid_size**2, config.width
    all_patches = num_frames * num_patches
    joint, space_only = config.attention == "joint", config.attention == "space_only"
    sequences, length = (1, 1 + all_patches) if joint else (num_frames, 1 + num_patches)
    tokens = num_frames * (1 + num_patches) if space_only else 1 + all_patches
    temporal = all_patches * (5 * width**2 + 2 * num_frames * width) if config.attention == "divided" else 0
    attention = sequences * length * (4 * width**2 + 2 * length * width)
    embedding = all_patches * 3 * config.patch_size_px**2 * width
    heads = sum(width * len(names) for names in config.heads.values())
    return embedding + config.depth * (temporal + attention + tokens * 8 * width**2) + heads


def info_table(info: Info) -> Table:
    """The same for a terminal."""
    config = info.config
    table = Table(show_header=False, title=info.path, title_justify="left")
    num_heads = "heads not stated" if "num_heads" in info.not_stated else f"{config.num_heads} heads"
    usual = ", usual, not stated" if {"mean", "std"} & {*info.not_stated} else ""
    frames = "1 frame" if config.num_frames == 1 else f"{config.num_frames} frames"
    rows = {
        "format": info.format,
        "weights from": info.origin,
        "architecture": (
            f"{config.attention} attention, {config.depth} blocks, width {config.width}, {num_heads}, "
            f"patches of {config.patch_size_px} px"
        ),
        "parameters": f"{info.num_parameters:,}",
        "cost of a view": f"{info.multiply_adds / 1e9:,.1f} G multiply-adds (GFLOPs, as papers count them)",
        "input": f"{frames} of {config.image_size_px} × {config.image_size_px} px",
        "normalisation": f"mean {_numbers(config.mean)}, std {_numbers(config.std)} of RGB in 0..1{usual}",
        "sampling": info.sampling,
    }
    for name, names in config.heads.items():
        label = "head" if name == HEAD else f"head {name}"
        classes = "their names not stated" if "heads" in info.not_stated else _first(names, SHOWN_CLASSES)
        rows[label] = f"{len(names):,} classes: {classes}"
    if not config.heads:
        rows["heads"] = "none"
    if info.choice:
        rows["model"] = info.choice
    if info.unused:
        rows["unused"] = f"{len(info.unused)} tensors: {_first(info.unused, SHOWN_NAMES)}"
    for label, value in rows.items():
        table.add_row(label, value)
    return table


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _first(names: tuple[str, ...], count: int) -> str:
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")
