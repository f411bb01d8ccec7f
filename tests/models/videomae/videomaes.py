"""Small VideoMAEs: those of transformers, with random weights, and ours with the same weights."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

from cover.models.classifier import VideoClassifier
from cover.models.create import create_model

NAMES = {  # theirs: ours, applied in this order
    r"videomae\.embeddings\.patch_embeddings\.projection": "patch_embed.proj",
    r"videomae\.encoder\.layer\.": "blocks.",
    r"attention\.attention\.query\.bias": "attn.q_bias",
    r"attention\.attention\.value\.bias": "attn.v_bias",
    r"attention\.output\.dense": "attn.proj",
    r"layernorm_before": "norm1",
    r"layernorm_after": "norm2",
    r"intermediate\.dense": "mlp.fc1",
    r"output\.dense": "mlp.fc2",
}
SMALL: dict[str, Any] = {"depth": 2, "width": 24, "num_heads": 2, "num_frames": 4, "image_size": 32}


def create_oracle(*, num_frames: int = 4, image_size: int = 32, **settings: Any) -> VideoMAEForVideoClassification:
    """A small VideoMAE of transformers in which every parameter matters."""
    config = VideoMAEConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        num_frames=num_frames,
        image_size=image_size,
        **{"num_labels": 5} | settings,
    )
    oracle = VideoMAEForVideoClassification(config)
    for parameter in oracle.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    oracle.eval()
    return oracle


def by_our_names(theirs: dict[str, Tensor], head: str = "k400") -> dict[str, Tensor]:
    """Tensors of the oracle, or their gradients, by our names and in our layout."""
    ours, parts = {}, dict[str, list[Tensor]]()
    for name, tensor in theirs.items():
        if match := re.search(r"layer\.(\d+)\.attention\.attention\.(query|key|value)\.weight", name):
            parts.setdefault(f"blocks.{match[1]}.attn.qkv.weight", []).append(tensor)  # query, key, value in order
            continue
        for pattern, our in NAMES.items():
            name = re.sub(pattern, our, name)
        ours[name.replace("classifier", f"heads.{head}")] = tensor
    return ours | {name: torch.cat(three) for name, three in parts.items()}


def small_model(**settings: Any) -> VideoClassifier:
    """A model of ours in which every parameter matters, with transformers' epsilons."""
    model = create_model("videomae_small", **SMALL | {"heads": {"k400": 5}} | settings)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.normalise_as(replace(model.config, layer_norm_eps=1e-12, fc_norm_eps=1e-5))  # type: ignore[call-arg]
    return model.eval()


def clips(num_frames: int, num_clips: int, size_px: int = 32, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(num_frames, num_clips, 3, size_px, size_px, dtype=dtype)


def oracle_logits(oracle: VideoMAEForVideoClassification, frames_TBCYX: Tensor) -> Tensor:
    """Logits [B, classes]. An image is the frame twice."""
    frames = frames_TBCYX.expand(2, -1, -1, -1, -1) if len(frames_TBCYX) == 1 else frames_TBCYX
    logits: Tensor = oracle(frames.transpose(0, 1)).logits
    return logits
