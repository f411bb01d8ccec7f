"""Small V-JEPA 2s: those of transformers, with random weights, and ours with the same weights."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

from cover.models.classifier import VideoClassifier
from cover.models.create import create_model

NAMES = {  # theirs: ours, applied in this order
    r"vjepa2\.encoder\.embeddings\.patch_embeddings": "patch_embed",
    r"vjepa2\.encoder\.layernorm": "norm",
    r"vjepa2\.encoder\.layer\.": "blocks.",
    r"attention\.proj": "attn.proj",
    r"self_attn\.out_proj": "attn.proj",
    r"self_attention_layers": "blocks",
    r"cross_attention_layer": "cross_attention_block",
    r"layer_norm": "norm",
    r"cross_attn\.q_proj": "xattn.q",
}
JOINED = {  # theirs, as "part": ours, from parts in this order
    r"attention\.(query|key|value)": "attn.qkv",
    r"self_attn\.([qkv])_proj": "attn.qkv",
    r"cross_attn\.([kv])_proj": "xattn.kv",
}
SMALL: dict[str, Any] = {
    "depth": 2, "width": 48, "num_heads": 2, "patch_size": 8, "num_frames": 4, "image_size": 32,
    "head": "attentive", "pooler_depth": 1, "pooler_heads": 2,
}  # fmt: skip
"""Heads of 24 features: 8 for each axis."""


def create_oracle(*, num_frames: int = 4, image_size: int = 32, **settings: Any) -> VJEPA2ForVideoClassification:
    """A small V-JEPA 2 of transformers in which every parameter matters."""
    values: dict[str, Any] = {"hidden_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2, "num_labels": 5}
    config = VJEPA2Config(
        patch_size=8,
        crop_size=image_size,
        frames_per_clip=num_frames,
        num_pooler_layers=1,
        pred_hidden_size=12,
        pred_num_attention_heads=1,
        pred_num_hidden_layers=1,
        **values | settings,
    )
    oracle = VJEPA2ForVideoClassification(config)
    for parameter in oracle.parameters():
        nn.init.normal_(parameter, std=0.2)
    oracle.eval()
    return oracle


def by_our_names(theirs: dict[str, Tensor], head: str = "k400") -> dict[str, Tensor]:
    """Tensors of the oracle, or their gradients, by our names and in our layout, without the predictor."""
    ours, parts = {}, dict[str, dict[str, Tensor]]()
    for name, tensor in theirs.items():
        if ".predictor." in name:
            continue
        part = ""
        for pattern, joined in JOINED.items():
            if match := re.search(pattern, name):
                part, name = match[1], re.sub(pattern, joined, name)
        for pattern, our in NAMES.items():
            name = re.sub(pattern, our, name)
        if part:
            parts.setdefault(name, {})[part[0]] = tensor
        else:
            ours[name.replace("classifier", f"heads.{head}")] = tensor
    return ours | {name: torch.cat([of[p] for p in "qkv" if p in of]) for name, of in parts.items()}


def small_model(variant: str = "vjepa2_large", **settings: Any) -> VideoClassifier:
    """A model of ours in which every parameter matters, with transformers' epsilons."""
    model = create_model(variant, **SMALL | {"heads": {"k400": 5}} | settings)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    if model.config.pooler:
        model.normalise_as(replace(model.config, pooler=replace(model.config.pooler, eps=1e-6)))
    return model.eval()


def clips(num_frames: int, num_clips: int, size_px: int = 32, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(num_frames, num_clips, 3, size_px, size_px, dtype=dtype)


def oracle_logits(oracle: VJEPA2ForVideoClassification, frames_TBCYX: Tensor, *, linear: bool = False) -> Tensor:
    """Logits [B, classes], with an attentive or a linear head. The oracle itself takes an image for the frame twice."""
    frames = frames_TBCYX.transpose(0, 1)
    if linear:
        tokens = oracle.vjepa2(pixel_values_videos=frames, skip_predictor=True).last_hidden_state
        out: Tensor = oracle.classifier(tokens.mean(1))
        return out
    logits: Tensor = oracle(frames).logits
    return logits
