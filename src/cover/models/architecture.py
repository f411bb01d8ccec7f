"""What model foreign weights belong to: read off the shapes of their tensors and the settings saved beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import count
from math import isqrt
from pathlib import Path
from typing import Any

from cover.errors import CheckpointError, CoverError
from cover.models.config import Attention, ModelConfig, class_names
from cover.models.names import HEAD

Shape = tuple[int, ...]
HEAD_WIDTH = 64
"""Channels of an attention head in every published model; a file without settings does not say it."""
PUBLISHED_MEAN_STD = (0.45,) * 3, (0.225,) * 3
VIT_MEAN_STD = (0.5,) * 3, (0.5,) * 3


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no such file. Raises CheckpointError when it is damaged."""
    try:
        values = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); copy or download it again") from None
    return values if isinstance(values, dict) else {}


def read_architecture(
    format: str, shape: Callable[[str], Shape | None], folder: Path, *, has_head: bool
) -> ModelConfig:
    """The model that foreign weights belong to.

    shape: the shape of a tensor by our name, None where there is none. folder: where config.json and
    preprocessor_config.json of transformers and timm are, if anywhere. has_head: whether the classifier, if there is
    one, reads the features directly. Raises CoverError for shapes that belong to no model.
    """
    settings = read_json(folder / "config.json")
    width, _, patch_size_px, _ = _axes(shape, "patch_embed.proj.weight", 4)
    _, num_tokens, _ = _axes(shape, "pos_embed", 3)
    num_frames = _axes(shape, "time_embed", 3)[1] if shape("time_embed") else settings.get("num_frames", 1)
    mean, std = _normalisation(format, folder, settings)
    head = shape(f"heads.{HEAD}.weight") if has_head else None
    return ModelConfig(
        depth=next(index for index in count() if not shape(f"blocks.{index}.norm1.weight")),
        width=width,
        num_heads=settings.get("num_attention_heads") or max(1, width // HEAD_WIDTH),
        num_frames=num_frames,
        image_size_px=isqrt(num_tokens - 1) * patch_size_px,
        patch_size_px=patch_size_px,
        attention=_attention(shape),
        heads={HEAD: _labels(settings, head[0])} if head else {},
        mean=mean,
        std=std,
    )


def _axes(shape: Callable[[str], Shape | None], name: str, num_axes: int) -> Shape:
    sizes = shape(name) or ()
    if len(sizes) != num_axes or not all(sizes):
        raise CoverError(f"{name} is {list(sizes) or 'absent'}")
    return sizes


def _attention(shape: Callable[[str], Shape | None]) -> Attention:
    if shape("blocks.0.temporal_fc.weight"):
        return "divided"
    return "joint" if shape("time_embed") else "space_only"


def _labels(settings: Mapping[str, Any], num_classes: int) -> tuple[str, ...]:
    """Class names as transformers (id2label) or timm (label_names) keep them, numbers where they are not told."""
    numbered = settings.get("id2label") or {}
    labels = [numbered.get(str(index)) for index in range(num_classes)]
    if all(isinstance(label, str) for label in labels) and labels != [f"LABEL_{i}" for i in range(num_classes)]:
        return tuple(map(str, labels))
    named = settings.get("label_names") or []
    return tuple(map(str, named)) if len(named) == num_classes else class_names(num_classes)


def _normalisation(
    format: str, folder: Path, settings: Mapping[str, Any]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the input: those saved beside the weights, else the format's usual ones."""
    mean, std = PUBLISHED_MEAN_STD if format.endswith("timesformer") else VIT_MEAN_STD
    if format.startswith("transformers"):
        saved = read_json(folder / "preprocessor_config.json")
        mean, std = saved.get("image_mean", mean), saved.get("image_std", std)
    elif format == "timm-vit":
        described = settings.get("pretrained_cfg") or settings
        mean, std = described.get("mean", mean), described.get("std", std)
    return tuple(mean), tuple(std)
