"""The attention layers of a TimeSformer block, on packed frames of normalised tokens.

Their input tokens lack the affine part of the norm, which is multiplied into the weights (kernels/folding.py). Their
output lacks the bias of the output projection, which is added with the residual (kernels/residual.py).

In their `forward` methods, `normed_FND` are the normalised tokens [F, 1+N, D] as products read them, `norm` is the norm
that gives the affine part, and `groups` is the layout of the frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.products import Input, Weight, linear
from cover.models.kernels.qkv import qkv_linear
from cover.models.kernels.temporal import temporal_branch
from cover.models.linear import Linear, after_norm, cached_weight, in_dtype, prepared
from cover.models.packing import Group, unpack


class Attention(nn.Module):
    """The layers of any multi-head attention: from tokens to queries, keys and values, and back."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def _project(self, mixed: Tensor) -> Tensor:
        """Multiply the result of attention [..., D] by the output projection, without its bias."""
        weight = in_dtype(self.proj, compute_dtype(mixed))
        return linear(Input.of(mixed, weight.forward), weight)


class SpatialAttention(Attention):
    """Multi-head attention over the class token and patches of each frame."""

    def forward(self, normed_FND: Input, norm: nn.LayerNorm, groups: tuple[Group, ...]) -> Tensor:
        """Return the values of the residual, [F, 1+N, D]."""
        dtype = compute_dtype(normed_FND.exact)
        weight, bias = after_norm(norm, self.qkv, dtype)
        frames = Group(1, len(normed_FND.exact))  # each is a sequence of its own
        (qkv,) = qkv_linear(normed_FND, weight, bias, self.num_heads, [frames])
        return self._project(attend(*qkv))

    def of_class_token(self, normed_FND: Input, norm: nn.LayerNorm, groups: tuple[Group, ...]) -> Tensor:
        """Return the result for the class token only, [F, D]."""
        dtype, width = compute_dtype(normed_FND.exact), normed_FND.exact.shape[-1]
        weight, bias = after_norm(norm, self.qkv, dtype)
        query = linear(normed_FND.first_tokens(), weight.part(slice(width)), bias[:width])
        key_value = linear(normed_FND, weight.part(slice(width, None)), bias[width:])
        key, value = key_value.unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query = query.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return self._project(attend(query, key, value).squeeze(1))


class JointAttention(Attention):
    """Multi-head attention over the class token and the patches of all frames of each clip."""

    def forward(self, normed_FND: Input, norm: nn.LayerNorm, groups: tuple[Group, ...]) -> Tensor:
        """Return the values of the residual, [F, 1+N, D]."""
        dtype = compute_dtype(normed_FND.exact)
        qkv = linear(normed_FND, *after_norm(norm, self.qkv, dtype)).unflatten(-1, (3, self.num_heads, -1))
        mixed_FND = torch.cat([attend_over_clip(group).flatten(0, 1) for group in unpack(qkv, groups)])
        return self._project(mixed_FND)

    def of_class_token(self, normed_FND: Input, norm: nn.LayerNorm, groups: tuple[Group, ...]) -> Tensor:
        """Return the result for the class token only, [F, D]."""
        return self.forward(normed_FND, norm, groups)[:, 0]


class TemporalAttention(Attention):
    """Multi-head attention over the frames of a clip, for each patch position separately.

    The linear layers run once over all frames. Only softmax(QKᵀ)V runs once per group of equal clip length.
    """

    def forward(
        self, normed_FND: Input, norm: nn.LayerNorm, fc: Linear, groups: tuple[Group, ...]
    ) -> tuple[Tensor, Tensor]:
        """Return the values [F, 1+N, D] and the bias [D] of the residual.

        `fc` follows the output projection (TimeSformer's temporal_fc). The two are multiplied into one linear layer.
        """
        dtype = compute_dtype(normed_FND.exact)
        weight, bias = after_norm(norm, self.qkv, dtype)
        out_weight, out_bias = cached_weight(fc, dtype, lambda: joined(fc, self.proj, dtype))
        return temporal_branch(normed_FND, weight, bias, out_weight, self.num_heads, groups), out_bias


def joined(last: Linear, first: Linear, dtype: torch.dtype) -> tuple[Weight, Tensor]:
    """Return weight and bias of the linear layer that equals `first` followed by `last`."""
    weight = last.weight.to(dtype) @ first.weight.to(dtype)
    return prepared(weight, last, dtype), torch.addmv(last.bias, last.weight, first.bias)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute softmax attention in each frame.

    torch chooses the implementation: cuDNN on data-center GPUs since Hopper, where it is the fastest at 197 and at 785
    tokens, and FlashAttention on other GPUs. It excludes versions of cuDNN before 9.15.1, which read beyond sequences
    that are not multiples of 128 (pytorch issue 169849).

    Args:
        query: [F, H, Q, E], for Q queries.
        key: [F, H, N, E].
        value: [F, H, N, E].

    Returns:
        [F, Q, D].
    """
    mixed_FHNE = F.scaled_dot_product_attention(query, key, value)
    return mixed_FHNE.transpose(1, 2).flatten(2)


def attend_over_clip(qkv: Tensor) -> Tensor:
    """Compute softmax attention over all tokens of each clip, with only the first of its class token's copies.

    Args:
        qkv: Queries, keys and values of one group, [T, B, 1+N, 3, H, E].

    Returns:
        [T, B, 1+N, D], with the class token's result in every frame.
    """
    num_frames = qkv.shape[0]
    tokens = torch.cat([qkv[0, :, :1], qkv[:, :, 1:].transpose(0, 1).flatten(1, 2)], dim=1)  # [B, 1+T·N, 3, H, E]
    query, key, value = tokens.permute(2, 0, 3, 1, 4)
    mixed = attend(query, key, value)
    class_copies = mixed[None, :, :1].expand(num_frames, -1, -1, -1)
    patches = mixed[:, 1:].unflatten(1, (num_frames, -1)).transpose(0, 1)
    return torch.cat([class_copies, patches], dim=2)
