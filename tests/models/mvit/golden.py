"""Logits of torchvision 0.28.0's MViTs for random weights and clips, so that tests need no torchvision.

    COVER_TORCHVISION=DIR python -m tests.models.mvit.golden

writes the files again; torchvisions.py says what DIR is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tests.models.mvit.oracle import create_oracle, oracle_logits, our_weights, small_config
from torch import Tensor

from cover.models.mvit.config import VARIANTS, VIDEO_MEAN, VIDEO_STD, MViTConfig

TORCHVISION = "0.28.0"
SIZE_PX = 40
"""10 tokens along a side, which no stride divides."""


def golden_file(variant: str) -> Path:
    """Return the file of a variant."""
    return Path(__file__).with_name(f"golden_{variant}.safetensors")


def golden_config(variant: str) -> MViTConfig:
    """Return a small configuration that has what distinguishes the variant."""
    depths = (2, 1) if variant == "mvitv2_base" else (1, 2)
    settings: dict[str, Any] = {"width": 8, "num_heads": 2 if variant == "mvitv2_large" else 1, "depths": depths}
    return small_config(variant, num_classes=3, num_frames=6, image_size=SIZE_PX, **settings)


def write(variant: str, path: Path) -> None:
    """Draw weights and clips, and store them with the logits."""
    torch.manual_seed(0)
    config = golden_config(variant)
    oracle = create_oracle(config).eval()
    frames = torch.randint(256, (config.num_frames, 2, 3, SIZE_PX, SIZE_PX), dtype=torch.uint8)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (VIDEO_MEAN, VIDEO_STD))
    with torch.no_grad():
        logits = oracle_logits(oracle.double(), (frames.double() / 255 - mean) / std).float()
    weights = {f"model.{name}": tensor.clone() for name, tensor in our_weights(oracle.float()).items()}
    stored: dict[str, Tensor] = {"frames": frames, "logits": logits} | weights
    save_file(stored, path, {"torchvision": TORCHVISION})
    path.chmod(0o644)


if __name__ == "__main__":
    for variant in VARIANTS:
        write(variant, golden_file(variant))
