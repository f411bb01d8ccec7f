"""Models with fresh weights."""

from __future__ import annotations

from torch import nn

from cover.config.families import TemporalInit
from cover.config.layers import checked
from cover.models.classifier import VideoClassifier, empty_model
from cover.models.config import Heads, ModelConfig
from cover.models.family import configure, family_with_variant

LINEAR_STD = 0.02


def create_model(
    variant: str = "timesformer_base",
    *,
    num_frames: int = 8,
    image_size: int = 224,
    heads: Heads,
    drop_path_rate: float = 0.0,
    temporal_init: TemporalInit = "zero",
    **settings: object,
) -> VideoClassifier:
    """Build a model with fresh weights, drawn from torch's generator.

    >>> model = create_model("timesformer_base", num_frames=8, image_size=224, heads={"k400": 400})

    Args:
        variant: A named size of a family, such as timesformer_tiny, _small, _base or _large.
        num_frames: Frames of a clip.
        image_size: Side of a frame, in pixels.
        heads: For each dataset its class names, or their number.
        drop_path_rate: Share of residual branches that training drops in the last block. It rises linearly from 0.
        temporal_init: How the layers that mix frames start. "zero": without effect, as published. "random": the model
            learns frame order sooner, unless its pre-training is strong.
        **settings: Other keys that the family has in `[model]` of a recipe. For TimeSformer these are depth, width,
            num_heads, patch_size, attention and image_temporal; for all families head, pooler_depth and pooler_heads.
            None keeps the variant's value.

    Returns:
        The model in training mode.

    Raises:
        CoverError: The variant or a setting is unknown, or values do not fit together.
    """
    family = family_with_variant(variant)
    values = {
        "family": family.name,
        "variant": variant,
        "num_frames": num_frames,
        "image_size": image_size,
        "drop_path_rate": drop_path_rate,
        "temporal_init": temporal_init,
    } | {name: value for name, value in settings.items() if value is not None}
    return build(configure(checked(family.section, values, "create_model"), heads), temporal_init)


def build(config: ModelConfig, temporal_init: TemporalInit = "zero") -> VideoClassifier:
    """Build a model with fresh weights, drawn from torch's generator.

    Args:
        config: The configuration of the model.
        temporal_init: How the layers that mix frames start; see `create_model`.
    """
    model = VideoClassifier(config)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=LINEAR_STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    model.backbone.init_weights(temporal_init)
    if model.pooler is not None:
        model.pooler.init_weights()
    return model


def num_parameters(config: ModelConfig) -> int:
    """Return the number of parameters of a model with this configuration, without allocating it."""
    return sum(parameter.numel() for parameter in empty_model(config).parameters())
