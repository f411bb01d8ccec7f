"""Fresh models: the named variants and how their parameters start."""

from __future__ import annotations

import re
from typing import Literal

import torch
from torch import nn

from cover.models.config import Attention, Heads, ImageTemporal, ModelConfig, variant_config
from cover.models.timesformer.model import TimeSformer

TemporalInit = Literal["zero", "random"]

INIT_STD = 0.02
RANDOM_TIME_STD = 0.1
"""Time embedding's spread under temporal_init = "random": large enough that order is visible from the first step."""


def create_model(
    variant: str = "timesformer_base",
    *,
    num_frames: int = 8,
    image_size: int = 224,
    heads: Heads,
    patch_size: int | None = None,
    depth: int | None = None,
    width: int | None = None,
    num_heads: int | None = None,
    attention: Attention = "divided",
    image_temporal: ImageTemporal = "attend",
    drop_path_rate: float = 0.0,
    temporal_init: TemporalInit = "zero",
) -> TimeSformer:
    """A TimeSformer with fresh weights.

    >>> model = create_model("timesformer_base", num_frames=8, image_size=224, heads={"k400": 400})

    variant: timesformer_tiny, _small, _base or _large; depth, width, num_heads and patch_size override its values.
    num_frames, image_size: frames of a clip, side of a frame in pixels. heads: class names, or their number, of each
    dataset. temporal_init: "zero" starts temporal_fc and the time embedding at zero, as published; "random" does not,
    which learns frame order sooner where there is no strong pre-training. Raises CoverError for values that do not fit.
    """
    config = variant_config(
        variant,
        heads,
        num_frames=num_frames,
        image_size_px=image_size,
        patch_size_px=patch_size,
        depth=depth,
        width=width,
        num_heads=num_heads,
        attention=attention,
        image_temporal=image_temporal,
        drop_path_rate=drop_path_rate,
    )
    return build(config, temporal_init)


def build(config: ModelConfig, temporal_init: TemporalInit = "zero") -> TimeSformer:
    """A TimeSformer of this configuration with fresh weights, drawn from torch's generator."""
    model = TimeSformer(config)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=INIT_STD)
            nn.init.zeros_(module.bias)
        if temporal_init == "zero" and re.fullmatch(r"blocks\.\d+\.temporal_fc", name):
            nn.init.zeros_(module.weight)
    nn.init.trunc_normal_(model.cls_token, std=INIT_STD)
    nn.init.trunc_normal_(model.pos_embed, std=INIT_STD)
    if temporal_init == "random" and config.attention != "space_only":
        nn.init.trunc_normal_(model.time_embed, std=RANDOM_TIME_STD)
    return model


def num_parameters(config: ModelConfig) -> int:
    """Number of parameters of a model, without allocating it."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in TimeSformer(config).parameters())
