"""The attentions of a TimeSformer block, on packed frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.models.packing import Group, unpack


class SpatialAttention(nn.Module):
    """Multi-head attention among the class token and patches of each frame."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens_FND: Tensor) -> Tensor:
        qkv = self.qkv(tokens_FND).unflatten(-1, (3, self.num_heads, -1))
        query_FHNE, key_FHNE, value_FHNE = qkv.permute(2, 0, 3, 1, 4)
        mixed_FHNE = F.scaled_dot_product_attention(query_FHNE, key_FHNE, value_FHNE)
        out: Tensor = self.proj(mixed_FHNE.transpose(1, 2).flatten(2))
        return out


class JointAttention(nn.Module):
    """Multi-head attention among the class token and all patches of all frames of each clip."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens_FND: Tensor, groups: tuple[Group, ...]) -> Tensor:
        qkv = self.qkv(tokens_FND).unflatten(-1, (3, self.num_heads, -1))
        mixed_FND = torch.cat([attend_over_clip(group).flatten(0, 1) for group in unpack(qkv, groups)]).flatten(2)
        out: Tensor = self.proj(mixed_FND)
        return out


class TemporalAttention(nn.Module):
    """Multi-head attention among the frames of a clip, at each patch by itself.

    The linear layers run once over all frames; only softmax(QKᵀ)V runs per group of equal clip length. For clips of
    one frame the softmax over a single key is 1 and the result is the value itself (paper, appendix A).
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, patches_FND: Tensor, groups: tuple[Group, ...], fc: nn.Linear) -> Tensor:
        """fc: the linear map that follows the output projection (TimeSformer's temporal_fc); both are applied as
        their product, which is formed here."""
        qkv = self.qkv(patches_FND).unflatten(-1, (3, self.num_heads, -1))
        mixed_FND = torch.cat([attend_over_frames(group).flatten(0, 1) for group in unpack(qkv, groups)]).flatten(2)
        return F.linear(mixed_FND, fc.weight @ self.proj.weight, F.linear(self.proj.bias, fc.weight, fc.bias))


def attend_over_frames(qkv: Tensor) -> Tensor:
    """Softmax attention over T. qkv: [T, B, N, 3, H, E] of one group; returns [T, B, N, H, E]."""
    num_frames, num_clips = qkv.shape[:2]
    if num_frames == 1:
        return qkv[:, :, :, 2]
    # Batched over clips and patches as strided views, which no copy is made of (docs/log.md).
    query, key, value = qkv.flatten(1, 2).permute(2, 1, 3, 0, 4)
    mixed: Tensor = F.scaled_dot_product_attention(query, key, value).permute(2, 0, 1, 3)
    out: Tensor = mixed.unflatten(1, (num_clips, -1))
    return out


def attend_over_clip(qkv: Tensor) -> Tensor:
    """Softmax attention over the tokens of a clip, of whose class copies only the first frame's takes part.

    qkv: [T, B, 1+N, 3, H, E] of one group; returns [T, B, 1+N, H, E] with the class token's result in every frame.
    """
    num_frames = qkv.shape[0]
    tokens = torch.cat([qkv[0, :, :1], qkv[:, :, 1:].transpose(0, 1).flatten(1, 2)], dim=1)  # [B, 1+T·N, 3, H, E]
    query, key, value = tokens.permute(2, 0, 3, 1, 4)
    mixed: Tensor = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    class_copies = mixed[None, :, :1].expand(num_frames, -1, -1, -1, -1)
    patches = mixed[:, 1:].unflatten(1, (num_frames, -1)).transpose(0, 1)
    return torch.cat([class_copies, patches], dim=2)
