"""The published TimeSformer as transformers keeps it, with random weights, and the same weights under our names."""

from __future__ import annotations

import re

import torch
from torch import Tensor
from transformers import TimesformerConfig, TimesformerForVideoClassification

NAMES = {  # theirs: ours, applied in this order
    r"timesformer\.embeddings\.patch_embeddings\.projection": "patch_embed.proj",
    r"timesformer\.embeddings\.cls_token": "cls_token",
    r"timesformer\.embeddings\.position_embeddings": "pos_embed",
    r"timesformer\.embeddings\.time_embeddings": "time_embed",
    r"timesformer\.encoder\.layer\.": "blocks.",
    r"temporal_layernorm": "temporal_norm1",
    r"temporal_attention\.attention\.qkv": "temporal_attn.qkv",
    r"temporal_attention\.output\.dense": "temporal_attn.proj",
    r"temporal_dense": "temporal_fc",
    r"attention\.attention\.qkv": "attn.qkv",
    r"attention\.output\.dense": "attn.proj",
    r"layernorm_before": "norm1",
    r"layernorm_after": "norm2",
    r"intermediate\.dense": "mlp.fc1",
    r"output\.dense": "mlp.fc2",
    r"timesformer\.layernorm": "norm",
    r"classifier": "heads.k400",
}


def our_name(theirs: str) -> str:
    for pattern, ours in NAMES.items():
        theirs = re.sub(pattern, ours, theirs)
    return theirs


def create_oracle(**settings: object) -> TimesformerForVideoClassification:
    """A small published TimeSformer in which every parameter matters (nothing starts at zero)."""
    config = TimesformerConfig(drop_path_rate=0, layer_norm_eps=1e-6, **settings)
    oracle = TimesformerForVideoClassification(config)
    for parameter in oracle.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return oracle


def our_weights(oracle: TimesformerForVideoClassification) -> dict[str, Tensor]:
    return {our_name(name): tensor for name, tensor in oracle.state_dict().items()}
