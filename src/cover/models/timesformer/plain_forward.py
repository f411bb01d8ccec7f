"""The forward pass in plain steps, for one clip. It keeps attention probabilities, which fused operations do not.

A test checks that it computes the same feature as the model. Only its gradients differ: attention probabilities, the
deviations that layer norms divide by, and the gates of the GELUs (GELU(x) = x · Φ(x)) are held at their values for this
clip. That leaves a linear map from the embedded patches to the logits, which is how the model classified this clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cover.models.kernels.mlp import Approximate
from cover.models.timesformer.config import TimeSformerConfig
from cover.models.timesformer.embeddings import resize_pos_embed, time_embed_for
from cover.models.timesformer.model import TimeSformer


@dataclass(frozen=True)
class BlockAttention:
    """Attention probabilities of one block. Rows are queries and sum to one.

    Attributes:
        temporal: Between the frames at each patch position, [N, H, T, T]; None without temporal attention.
        spatial: Between the class token and patches of each frame, [T, H, 1+N, 1+N]. With joint attention the patches
            of all frames are one sequence, [1, H, 1+T·N, 1+T·N].
    """

    temporal: Tensor | None
    spatial: Tensor


@dataclass(frozen=True)
class PlainForward:
    """The results of `plain_forward`.

    Attributes:
        patches: The embedded patches before position and time are added, [T, N, D]. It requires gradients.
        blocks: The attention of each block, from the first to the last.
        feature: The class token after the final norm, [D].
    """

    patches: Tensor
    blocks: tuple[BlockAttention, ...]
    feature: Tensor


def plain_forward(model: TimeSformer, frames_TCYX: Tensor) -> PlainForward:
    """Encode one clip, in float32 and without drop path.

    Args:
        model: With any kind of attention.
        frames_TCYX: Normalised frames.
    """
    patches_TDYX = model.patch_embed.proj(frames_TCYX)
    patches_TND = patches_TDYX.flatten(2).mT.detach().requires_grad_()
    tokens_TND = _placed(model, patches_TND, tuple(patches_TDYX.shape[2:]))
    if model.config.attention == "joint":  # one sequence with one class token
        tokens_TND = torch.cat([tokens_TND[:1, :1], tokens_TND[:, 1:].flatten(0, 1)[None]], dim=1)
    if model.norm_pre is not None:
        tokens_TND = _norm(model.norm_pre, tokens_TND)
    blocks = []
    for block in model.blocks:
        tokens_TND, attention = _through_block(block, tokens_TND, model.config)
        blocks.append(attention)
    # The mean matters only to a space-only model. In the others, all copies of the class token are equal.
    return PlainForward(patches_TND, tuple(blocks), _norm(model.norm, tokens_TND[:, 0].mean(0)))


def _placed(model: TimeSformer, patches_TND: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Return each frame's class token and its patches with position and time, [T, 1+N, D]."""
    pos_embed = resize_pos_embed(model.pos_embed, grid)
    placed_TND = patches_TND + pos_embed[:, 1:]
    if model.config.attention != "space_only":
        placed_TND = placed_TND + time_embed_for(model.time_embed, len(patches_TND))[0, :, None]
    class_TND = (model.cls_token + pos_embed[:, :1]).expand(len(patches_TND), -1, -1)
    return torch.cat([class_TND, placed_TND], dim=1)


def _through_block(block: Any, tokens_TND: Tensor, config: TimeSformerConfig) -> tuple[Tensor, BlockAttention]:
    temporal = None
    if config.attention == "divided" and (len(tokens_TND) > 1 or config.image_temporal == "attend"):
        normed_NTD = _norm(block.temporal_norm1, tokens_TND[:, 1:]).transpose(0, 1)
        mixed_NTD, temporal = _attend(block.temporal_attn, normed_NTD)
        patches_TND = tokens_TND[:, 1:] + block.temporal_fc(mixed_NTD).transpose(0, 1)
        tokens_TND = torch.cat([tokens_TND[:, :1], patches_TND], dim=1)
    elif config.attention == "divided" and config.image_temporal == "linear":
        patches_TND = tokens_TND[:, 1:] + block.image_fc(_norm(block.temporal_norm1, tokens_TND[:, 1:]))
        tokens_TND = torch.cat([tokens_TND[:, :1], patches_TND], dim=1)
    mixed_TND, spatial = _attend(block.attn, _norm(block.norm1, tokens_TND))
    if config.attention == "divided":  # the class token's residual is averaged over the frames
        class_TND = mixed_TND[:, :1].mean(0, keepdim=True).expand(len(mixed_TND), -1, -1)
        mixed_TND = torch.cat([class_TND, mixed_TND[:, 1:]], dim=1)
    tokens_TND = tokens_TND + mixed_TND
    hidden = block.mlp.fc1(_norm(block.norm2, tokens_TND))
    tokens_TND = tokens_TND + block.mlp.fc2(hidden * _gate(hidden.detach(), block.mlp.approximate))
    return tokens_TND, BlockAttention(temporal, spatial)


def _attend(attention: Any, tokens_SLD: Tensor) -> tuple[Tensor, Tensor]:
    """Apply attention to S sequences of L tokens. Returns the result [S, L, D] and probabilities [S, H, L, L]."""
    qkv = attention.qkv(tokens_SLD).unflatten(-1, (3, attention.num_heads, -1))
    query_SHLE, key_SHLE, value_SHLE = qkv.permute(2, 0, 3, 1, 4)
    probabilities = (query_SHLE @ key_SHLE.mT / math.sqrt(query_SHLE.shape[-1])).softmax(-1).detach()
    out: Tensor = attention.proj((probabilities @ value_SHLE).transpose(1, 2).flatten(2))
    return out, probabilities


def _norm(norm: nn.LayerNorm, tokens: Tensor) -> Tensor:
    deviation = (tokens.var(-1, correction=0, keepdim=True) + norm.eps).sqrt().detach()
    out: Tensor = (tokens - tokens.mean(-1, keepdim=True)) / deviation * norm.weight + norm.bias
    return out


def _gate(hidden: Tensor, approximate: Approximate) -> Tensor:
    """Return GELU(x) / x."""
    if approximate == "tanh":  # (1 + tanh u) / 2 = sigmoid(2u)
        return torch.sigmoid(math.sqrt(8 / math.pi) * hidden * (1 + 0.044715 * hidden.square()))
    return torch.sigmoid(1.702 * hidden) if approximate == "sigmoid" else torch.special.ndtr(hidden)
