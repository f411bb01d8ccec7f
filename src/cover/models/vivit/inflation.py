"""Start a ViViT from a plain image ViT."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cover.models.checkpoints.source import Source
from cover.models.vit import inflation
from cover.models.vivit.config import ViViTConfig
from cover.models.vivit.model import central_frame


def inflated(source: Source, config: ViViTConfig) -> Source | None:
    """Present an image ViT as a ViViT, as published.

    The patch kernel becomes that of a tubelet's central frame; the other frames have no weight. Positions are those of
    every row in time. Class token, norm and blocks are kept. So the image of a joint ViViT has the feature of the ViT,
    and so has each row of a factorised encoder before the temporal transformer, which a ViT has nothing like. Models 3
    and 4 have no class token: they drop it and its position.

    Args:
        source: The weights, by timm's names.
        config: The configuration of the model.

    Returns:
        The weights by our names; None if they are no image ViT.
    """

    def create(shared: dict[str, Any]) -> ViViTConfig:
        if "num_heads" in source.not_stated:
            shared["num_heads"] = config.num_heads  # a placeholder may not be even, as model 4 needs it
        return ViViTConfig(
            **shared,
            attention=config.attention,
            temporal_depth=config.temporal_depth,
            tubelet_size=config.tubelet_size,
            num_frames=1,
        )

    def origin(name: str) -> str | None:
        return None if "temporal_" in name else name

    def inflate(name: str, tensor: Tensor) -> Tensor:
        if name == "patch_embed.proj.weight":
            return central_frame(tensor, config.tubelet_size)
        if name == "pos_embed" and not config.has_class_token:
            return tensor[:, 1:]
        return tensor

    return inflation.inflated(source, create, origin, inflate, set() if config.has_class_token else {"cls_token"})
