"""Start a VideoMAE from a plain image ViT."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cover.models.checkpoints.source import Source
from cover.models.videomae.config import VideoMAEConfig
from cover.models.vit import inflation

ORIGINS = {"attn.q_bias": "attn.qkv.bias", "attn.v_bias": "attn.qkv.bias", "fc_norm": "norm"}
"""{our module: that of a ViT}, by timm's names."""
POSITIONS = {"cls_token", "pos_embed"}
"""What a VideoMAE has no use for."""


def inflated(source: Source, config: VideoMAEConfig) -> Source | None:
    """Present an image ViT as a VideoMAE.

    The patch kernel is repeated over the frames of a tubelet and divided by their number, so an image embeds as before.
    Blocks compute the same; the bias of keys, which softmax cancels, is left out. The norm of the class token becomes
    that of the mean token. Class token and learned positions have no use.

    Args:
        source: The weights, by timm's names.
        config: The configuration of the model.

    Returns:
        The weights by our names; None if they are no image ViT.
    """

    def create(shared: dict[str, Any]) -> VideoMAEConfig:
        eps = shared["layer_norm_eps"]
        return VideoMAEConfig(**shared, tubelet_size=config.tubelet_size, num_frames=1, fc_norm_eps=eps)

    def inflate(name: str, tensor: Tensor) -> Tensor:
        if name.endswith(("attn.q_bias", "attn.v_bias")):
            return tensor.chunk(3)[0 if name.endswith("q_bias") else 2]
        if name == "patch_embed.proj.weight":
            return tensor[:, :, None].expand(-1, -1, config.tubelet_size, -1, -1) / config.tubelet_size
        return tensor

    return inflation.inflated(source, create, origin, inflate, POSITIONS)


def origin(name: str) -> str:
    """Return the tensor of a ViT that our tensor comes from.

    >>> origin("blocks.3.attn.q_bias"), origin("fc_norm.weight")
    ('blocks.3.attn.qkv.bias', 'norm.weight')
    """
    for ours, theirs in ORIGINS.items():
        if name.endswith(ours) or name.startswith(f"{ours}."):
            return name.replace(ours, theirs)
    return name
