"""The published TimeSformer as transformers keeps it, with random weights, and the same weights under our names."""

from __future__ import annotations

import re
from typing import Any

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
}
ATTENTION = {"divided": "divided_space_time", "joint": "joint_space_time", "space_only": "space_only"}


def our_name(theirs: str, head: str = "k400") -> str:
    for pattern, ours in NAMES.items():
        theirs = re.sub(pattern, ours, theirs)
    return theirs.replace("classifier", f"heads.{head}")


def create_oracle(
    *, attention: str = "divided", num_frames: int = 4, **settings: Any
) -> TimesformerForVideoClassification:
    """A small published TimeSformer in which every parameter matters (nothing starts at zero)."""
    small: dict[str, Any] = {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_labels": 5,
        "image_size": 32,
    }
    values = small | settings
    config = TimesformerConfig(
        attention_type=ATTENTION[attention],
        num_frames=num_frames,
        intermediate_size=4 * values["hidden_size"],
        **values,
    )
    oracle = TimesformerForVideoClassification(config)
    for parameter in oracle.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return oracle


def our_weights(oracle: TimesformerForVideoClassification, head: str = "k400") -> dict[str, Tensor]:
    return {our_name(name, head): tensor for name, tensor in oracle.state_dict().items()}


def oracle_logits(oracle: TimesformerForVideoClassification, frames_TBCYX: Tensor) -> Tensor:
    """Logits [B, classes]. transformers answers each frame of a space-only clip; the published code takes the mean of
    the frames' class tokens before the final norm, and so do we here."""
    pixels = frames_TBCYX.transpose(0, 1)
    if oracle.config.attention_type != "space_only":
        logits: Tensor = oracle(pixels).logits
        return logits
    body = oracle.timesformer
    tokens = body.encoder(body.embeddings(pixels)).last_hidden_state
    class_BD = tokens[:, 0].unflatten(0, (len(pixels), -1)).mean(1)
    mean_logits: Tensor = oracle.classifier(body.layernorm(class_BD))
    return mean_logits
