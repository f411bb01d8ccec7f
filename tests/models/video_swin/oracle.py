"""torchvision's Video Swin with random weights, and the same weights under our names."""

from __future__ import annotations

import re
from typing import Any

from tests.models.torchvisions import torchvision_module
from torch import Tensor, nn

SMALL: dict[str, Any] = {"width": 16, "depths": (2, 2), "num_heads": (1, 2)}
"""A small Video Swin, as settings of ours."""


def create_oracle(window: tuple[int, int, int], *, num_classes: int = 5, **settings: Any) -> nn.Module:
    """A small Video Swin of torchvision in which every parameter matters."""
    sizes = SMALL | settings
    swin = torchvision_module("torchvision.models.video.swin_transformer")
    oracle: nn.Module = swin.SwinTransformer3d(
        patch_size=[2, 4, 4],
        embed_dim=sizes["width"],
        depths=list(sizes["depths"]),
        num_heads=list(sizes["num_heads"]),
        window_size=list(window),
        num_classes=num_classes,
        stochastic_depth_prob=0.0,
    )
    for name, parameter in oracle.named_parameters():
        nn.init.normal_(parameter, std=1 if "norm" in name or "table" in name else 0.3)
    return oracle


def oracle_logits(oracle: nn.Module, frames_TBCYX: Tensor) -> Tensor:
    """Logits [B, classes]. torchvision would fill an image up with a black frame; an image is two equal frames."""
    frames = frames_TBCYX.repeat(2, 1, 1, 1, 1) if len(frames_TBCYX) == 1 else frames_TBCYX
    logits: Tensor = oracle(frames.permute(1, 2, 0, 3, 4))
    return logits


def our_name(theirs: str, head: str = "k400") -> str:
    if match := re.fullmatch(r"features\.(\d+)\.(.*)", theirs):
        stage, is_merging = divmod(int(match[1]), 2)
        rest = match[2].replace("mlp.0", "mlp.fc1").replace("mlp.3", "mlp.fc2")
        return f"layers.{stage}.downsample.{rest}" if is_merging else f"layers.{stage}.blocks.{rest}"
    return re.sub(r"^head\.", f"heads.{head}.", theirs)


def our_weights(oracle: nn.Module, head: str = "k400") -> dict[str, Tensor]:
    return {our_name(name, head): tensor for name, tensor in oracle.state_dict().items() if "index" not in name}
