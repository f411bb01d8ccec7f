"""The attentions of a TimeSformer block, on packed frames of normalised tokens.

Each takes tokens without the affine part of the norm before it (kernels/folding.py), and leaves the bias of its output
projection to the residual (kernels/residual.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.qkv import qkv_linear
from cover.models.kernels.temporal import temporal_branch
from cover.models.linear import Linear, after_norm, cached_weight, in_dtype
from cover.models.packing import Group, unpack

BACKENDS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
"""In this order: at 197 and 785 tokens cuDNN's is the fastest (docs/performance.md)."""


class SpatialAttention(nn.Module):
    """Multi-head attention among the class token and patches of each frame."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, normed_FND: Tensor, norm: nn.LayerNorm, groups: tuple[Group, ...]) -> Tensor:
        dtype = compute_dtype(normed_FND)
        weight, bias = after_norm(norm, self.qkv, dtype)
        query, key, value = qkv_linear(normed_FND, weight, bias, self.num_heads)
        return F.linear(attend(query, key, value), in_dtype(self.proj, dtype))

    def of_class_token(self, normed_FND: Tensor, norm: nn.LayerNorm, groups: tuple[Group, ...]) -> Tensor:
        """The result for the class token alone, [F, D]."""
        dtype, width = compute_dtype(normed_FND), normed_FND.shape[-1]
        weight, bias = after_norm(norm, self.qkv, dtype)
        query = F.linear(normed_FND[:, :1], weight[:width], bias[:width]).unflatten(-1, (self.num_heads, -1))
        key_value = F.linear(normed_FND, weight[width:], bias[width:]).unflatten(-1, (2, self.num_heads, -1))
        key, value = key_value.permute(2, 0, 3, 1, 4)
        mixed_FD = attend(query.transpose(1, 2), key, value).squeeze(1)
        return F.linear(mixed_FD, in_dtype(self.proj, dtype))


class JointAttention(nn.Module):
    """Multi-head attention among the class token and all patches of all frames of each clip."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, normed_FND: Tensor, norm: nn.LayerNorm, groups: tuple[Group, ...]) -> Tensor:
        dtype = compute_dtype(normed_FND)
        qkv = F.linear(normed_FND, *after_norm(norm, self.qkv, dtype)).unflatten(-1, (3, self.num_heads, -1))
        mixed_FND = torch.cat([attend_over_clip(group).flatten(0, 1) for group in unpack(qkv, groups)])
        return F.linear(mixed_FND, in_dtype(self.proj, dtype))

    def of_class_token(self, normed_FND: Tensor, norm: nn.LayerNorm, groups: tuple[Group, ...]) -> Tensor:
        """The result for the class token alone, [F, D]."""
        return self.forward(normed_FND, norm, groups)[:, 0]


class TemporalAttention(nn.Module):
    """Multi-head attention among the frames of a clip, at each patch by itself.

    The linear layers run once over all frames; only softmax(QKᵀ)V runs per group of equal clip length.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(
        self, normed_FND: Tensor, norm: nn.LayerNorm, fc: Linear, groups: tuple[Group, ...]
    ) -> tuple[Tensor, Tensor]:
        """The residual's values and bias. fc: the linear map that follows the output projection (TimeSformer's
        temporal_fc); both are applied as their product, which is formed here."""
        dtype = compute_dtype(normed_FND)
        weight, bias = after_norm(norm, self.qkv, dtype)
        out_weight, out_bias = cached_weight(fc, dtype, lambda: product(fc, self.proj, dtype))
        return temporal_branch(normed_FND, weight, bias, out_weight, self.num_heads, groups), out_bias


def product(last: nn.Linear, first: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and bias of two linear layers in a row; the weight in `dtype`."""
    return last.weight.to(dtype) @ first.weight.to(dtype), torch.addmv(last.bias, last.weight, first.bias)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention of each frame. Arguments [F, H, N, E]; returns [F, N, D], of as many N as queries."""
    with sdpa_kernel(BACKENDS, set_priority=True):
        mixed_FHNE = F.scaled_dot_product_attention(query, key, value)
    return mixed_FHNE.transpose(1, 2).flatten(2)


def attend_over_clip(qkv: Tensor) -> Tensor:
    """Softmax attention over the tokens of a clip, of whose class copies only the first frame's takes part.

    qkv: [T, B, 1+N, 3, H, E] of one group; returns [T, B, 1+N, D] with the class token's result in every frame.
    """
    num_frames = qkv.shape[0]
    tokens = torch.cat([qkv[0, :, :1], qkv[:, :, 1:].transpose(0, 1).flatten(1, 2)], dim=1)  # [B, 1+T·N, 3, H, E]
    query, key, value = tokens.permute(2, 0, 3, 1, 4)
    mixed = attend(query, key, value)
    class_copies = mixed[None, :, :1].expand(num_frames, -1, -1, -1)
    patches = mixed[:, 1:].unflatten(1, (num_frames, -1)).transpose(0, 1)
    return torch.cat([class_copies, patches], dim=2)
