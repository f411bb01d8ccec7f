"""What a file of weights contains: architecture, size, cost, heads, input, origin. The weights are not read."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from cover.models.checkpoints.naming import HEAD
from cover.models.classifier import empty_model
from cover.models.config import ModelConfig
from cover.models.sources import open_source

SHOWN_CLASSES = 4
SHOWN_NAMES = 6


@dataclass(frozen=True)
class Info:
    """The contents of a file of weights, as `cover info` shows them.

    Attributes:
        path: The file or folder.
        format: The format that was recognised.
        origin: The code base that the weights come from.
        config: The configuration of the model.
        num_parameters: The number of its parameters.
        multiply_adds: Multiply-adds of one view (num_frames frames of image_size_px) through the whole model. None if
            the file states no depth, because it has only heads.
        sampling: How frames and views are sampled, if the file states it.
        unused: Tensors of the file that the model does not have.
        not_stated: Fields of `config` that the file does not state. If "num_heads" is among them, it is null in JSON.
        choice: Which model this is, if the file has several.
    """

    path: str
    format: str
    origin: str
    config: ModelConfig
    num_parameters: int
    multiply_adds: int | None
    sampling: str
    unused: tuple[str, ...]
    not_stated: tuple[str, ...] = ()
    choice: str | None = None

    def to_json(self) -> str:
        """Return all of it as JSON, with every class name."""
        values = asdict(self)
        if "num_heads" in self.not_stated:
            values["config"]["num_heads"] = None
        return json.dumps(values, indent=2, ensure_ascii=False)


def describe(path: str | Path) -> Info:
    """Describe a file or folder of weights, without reading the weights.

    Args:
        path: Anything that `open_source` can open.

    Raises:
        CheckpointError: The file is damaged, unknown, or has no model that we can build.
    """
    source = open_source(path)
    return Info(
        path=str(source.path),
        format=source.format,
        origin=source.origin,
        config=source.config,
        num_parameters=sum(math.prod(shape) for shape in source.shapes.values()),
        multiply_adds=None if "depth" in source.not_stated else multiply_adds(source.config),
        sampling="not stated by the file",
        unused=source.unused,
        not_stated=tuple(sorted(source.not_stated)),
        choice=source.choice if source.others else None,
    )


def multiply_adds(config: ModelConfig) -> int:
    """Return the multiply-adds of one view through the backbone and all heads, counted as in the publication."""
    return empty_model(config).multiply_adds(config.num_frames, config.heads)


def info_table(info: Info) -> Table:
    """Return all of it as a table for the terminal, with the first class names."""
    config, cost = info.config, info.multiply_adds
    table = Table(show_header=False, title=info.path, title_justify="left")
    usual = ", usual, not stated" if {"mean", "std"} & {*info.not_stated} else ""
    frames = "1 frame" if config.num_frames == 1 else f"{config.num_frames} frames"
    rows = {
        "format": info.format,
        "weights from": info.origin,
        "architecture": config.describe(info.not_stated),
        "parameters": f"{info.num_parameters:,}",
        "cost of a view": f"{giga(cost)} G multiply-adds (GFLOPs, as papers count them)" if cost else "not stated",
        "input": f"{frames} of {config.image_size_px} × {config.image_size_px} px",
        "normalisation": f"mean {_numbers(config.mean)}, std {_numbers(config.std)} of RGB in 0..1{usual}",
        "sampling": info.sampling,
    }
    if config.pooler is not None:
        rows["pooler"] = config.pooler.describe()
    for name, names in config.heads.items():
        label = "head" if name == HEAD else f"head {name}"
        classes = "their names not stated" if "heads" in info.not_stated else _first(names, SHOWN_CLASSES)
        alone = ", each with a probability of its own" if name in config.sigmoid_heads else ""
        rows[label] = f"{len(names):,} classes{alone}: {classes}"
    if not config.heads:
        rows["heads"] = "none"
    if info.choice:
        rows["model"] = info.choice
    if info.unused:
        rows["unused"] = f"{len(info.unused)} tensors: {_first(info.unused, SHOWN_NAMES)}"
    for label, value in rows.items():
        table.add_row(label, value)
    return table


def giga(number: float) -> str:
    """Return a number in units of 1e9, with four digits or more.

    >>> giga(1_234_567), giga(11_883_600_000_000)
    ('0.001235', '11,884')

    Args:
        number: Such as multiply-adds.
    """
    value = number / 1e9
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _first(names: tuple[str, ...], count: int) -> str:
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")
