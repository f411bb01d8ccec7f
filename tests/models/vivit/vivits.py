"""Small ViViTs: the official ones with the weights of golden.npz, those of transformers, and ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.models.vivit import golden
from torch import Tensor
from transformers import VivitConfig, VivitForVideoClassification

from cover.models.classifier import VideoClassifier
from cover.models.create import create_model

SMALL: dict[str, Any] = {"depth": 2, "width": 24, "num_heads": 2, "num_frames": 4, "image_size": 32}
ATTENTION = tuple(golden.ATTENTION)


def small_model(**settings: Any) -> VideoClassifier:
    """A model of ours in which every parameter matters."""
    model = create_model("vivit_base", **SMALL | {"heads": {"k400": 5}} | settings)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def golden_model(
    attention: str, heads: tuple[str, ...], *, num_frames: int = golden.FRAMES, image_size: int = golden.SIZE
) -> VideoClassifier:
    """A model with the sizes of the golden ones, and random weights."""
    return create_model(
        "vivit_base",
        attention=attention,
        depth=golden.DEPTH,
        temporal_depth=golden.TEMPORAL_DEPTH if attention == "factorised_encoder" else None,
        width=golden.WIDTH,
        num_heads=golden.HEADS,
        mlp_width=golden.MLP,
        patch_size=golden.PATCH,
        tubelet_size=golden.TUBELET,
        num_frames=num_frames,
        image_size=image_size,
        heads=dict.fromkeys(heads, golden.CLASSES),
    )


def save_arrays(arrays: dict[str, Any], path: Path) -> Path:
    """Write arrays as the official names have them."""
    np.savez(path, **arrays)
    return path


def create_oracle(*, num_frames: int = 4, image_size: int = 32, **settings: Any) -> VivitForVideoClassification:
    """A small ViViT of transformers in which every parameter matters."""
    config = VivitConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        num_frames=num_frames,
        image_size=image_size,
        **{"num_labels": 5} | settings,
    )
    oracle = VivitForVideoClassification(config)
    for parameter in oracle.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    oracle.eval()
    return oracle


def clips(num_frames: int, num_clips: int, size_px: int = 32, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(num_frames, num_clips, 3, size_px, size_px, dtype=dtype)


def oracle_logits(oracle: VivitForVideoClassification, frames_TBCYX: Tensor) -> Tensor:
    """Logits [B, classes]. An image is the frame twice."""
    frames = frames_TBCYX.expand(2, -1, -1, -1, -1) if len(frames_TBCYX) == 1 else frames_TBCYX
    logits: Tensor = oracle(frames.transpose(0, 1)).logits
    return logits
