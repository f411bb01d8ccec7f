"""torchvision's MViT with random weights, and the same weights under our names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import isqrt
from typing import Any

import torch.nn.functional as F
from tests.models.torchvisions import torchvision_module
from torch import Tensor, nn
from torch.func import functional_call

from cover.models.mvit import FAMILY
from cover.models.mvit.config import MViTConfig, MViTSection

SMALL: dict[str, Any] = {"width": 8, "depths": (1, 2, 1), "num_heads": 1, "kv_stride": 4}
"""A small MViT, as settings of ours."""


def small_config(variant: str, heads: Iterable[str] = ("k400",), num_classes: int = 5, **settings: Any) -> MViTConfig:
    """The configuration of a small MViT."""
    values = SMALL | {"variant": variant, "num_frames": 8, "image_size": 32, "drop_path_rate": 0.0} | settings
    return FAMILY.configure(MViTSection(**values), dict.fromkeys(heads, num_classes))


def bare_oracle(config: MViTConfig) -> nn.Module:
    """torchvision's MViT of a configuration, for its clip length and image size alone."""
    module = torchvision_module("torchvision.models.video.mvit")
    blocks = [
        module.MSBlockConfig(
            num_heads=shape.num_heads,
            input_channels=shape.width,
            output_channels=shape.out_width,
            kernel_q=[3, 3, 3] if shape.pools_queries else [],
            kernel_kv=[3, 3, 3],
            stride_q=[1, shape.stride, shape.stride] if shape.pools_queries else [],
            stride_kv=[1, shape.kv_stride, shape.kv_stride],
        )
        for shape in config.block_shapes()
    ]
    oracle: nn.Module = module.MViT(
        spatial_size=(config.image_size_px, config.image_size_px),
        temporal_size=config.num_frames,
        block_setting=blocks,
        residual_pool=config.version == 2,
        residual_with_cls_embed=False,
        rel_pos_embed=config.version == 2,
        proj_after_attn=config.widen_in == "attention",
        dropout=0.0,
        num_classes=len(next(iter(config.heads.values()))),
    )
    return oracle


def create_oracle(config: MViTConfig) -> nn.Module:
    """A small MViT of torchvision in which every parameter matters."""
    oracle = bare_oracle(config)
    for name, parameter in oracle.named_parameters():
        nn.init.normal_(parameter, std=1 if "norm" in name or "pos" in name else 0.3)
    return oracle


def oracle_logits(oracle: nn.Module, frames_TBCYX: Tensor) -> Tensor:
    """Logits [B, classes] of clips of any size. torchvision resizes tables of relative positions, but no others."""
    length, _, _, height, width = frames_TBCYX.shape
    positions: Any = oracle.get_submodule("pos_encoding")
    positions.temporal_size = -(-length // 2)
    positions.spatial_size = (-(-height // 4), -(-width // 4))
    resized = {}
    if positions.temporal_pos is not None:
        time, space = positions.temporal_pos.T[None], positions.spatial_pos.T[None]
        side = isqrt(space.shape[-1])
        space = F.interpolate(space.unflatten(2, (side, side)), size=positions.spatial_size, mode="bicubic")
        resized["pos_encoding.temporal_pos"] = F.interpolate(time, size=positions.temporal_size, mode="linear")[0].T
        resized["pos_encoding.spatial_pos"] = space.flatten(2)[0].T
    logits: Tensor = functional_call(oracle, resized, frames_TBCYX.permute(1, 2, 0, 3, 4))
    return logits


NAMES = {
    r"^conv_proj\.": "patch_embed.proj.",
    r"^pos_encoding\.class_token": "cls_token",
    r"^pos_encoding\.(\w+)_pos$": r"pos_embed_\1",
    r"\.pool_([qkv])\.pool\.": r".pool_\1.",
    r"\.pool_([qkv])\.norm_act\.0\.": r".norm_\1.",
    r"\.attn\.project\.0\.": ".attn.proj.",
    r"^(blocks\.\d+)\.project\.": r"\1.proj.",
    r"\.mlp\.0\.": ".mlp.fc1.",
    r"\.mlp\.3\.": ".mlp.fc2.",
}


def our_name(theirs: str, head: str = "k400") -> str:
    for pattern, ours in NAMES.items():
        theirs = re.sub(pattern, ours, theirs)
    return re.sub(r"^head\.1\.", f"heads.{head}.", theirs)


def our_shape(name: str, tensor: Tensor | None) -> Tensor:
    """The tensor `name` of ours in the shape of ours: positions and class tokens are [1, N, D]."""
    assert tensor is not None
    if name.startswith(("cls_token", "pos_embed")):
        return tensor.view(1, -1, tensor.shape[-1])
    return tensor


def our_weights(oracle: nn.Module, head: str = "k400") -> dict[str, Tensor]:
    named = {our_name(name, head): tensor for name, tensor in oracle.state_dict().items()}
    return {name: our_shape(name, tensor) for name, tensor in named.items()}
