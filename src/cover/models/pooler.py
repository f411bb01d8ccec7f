"""The attentive pooler of V-JEPA 2 (Assran et al. 2025): one feature per clip from all its tokens, for any backbone.

Blocks of self-attention run over the tokens of a clip, then a learned query reads them in cross-attention:

    tokens [B, L, D] of each group ── blocks ── cross-attention ── MLP ── features [B, D]

Clips of different lengths are packed into rows of one token each, so nothing is padded. Linear layers and norms run
once over all rows, attention once per distinct number of tokens. All datasets share the pooler, as they share the
backbone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.errors import CoverError
from cover.models.backbone import Backbone, TokenBackbone
from cover.models.config import PoolerConfig
from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.products import Input, linear
from cover.models.kernels.residual import Residual, Tokens, add_normalise, nothing_to_add
from cover.models.layers import Mlp
from cover.models.linear import Linear, after_norm
from cover.models.packing import Group, PackedClips
from cover.models.vit.block import FULL_BYTES_A_VALUE, HALF_BYTES_A_VALUE, Attention, Block

MLP_RATIO = 4
"""Features inside an MLP, as a multiple of D. It is 4 for every backbone, as published."""
QUERY_STD = 0.02
"""Standard deviation of the initial query."""


class AttentivePooler(nn.Module):
    """Self-attention over the tokens of a clip, and cross-attention with a learned query, with the published names.

    Args:
        width: The size of a token, D.
        config: Depth, attention heads and epsilon.

    Raises:
        CoverError: The attention heads do not divide the width.
    """

    def __init__(self, width: int, config: PoolerConfig) -> None:
        super().__init__()
        if width % config.num_heads:
            fitting = max(number for number in range(1, config.num_heads + 1) if width % number == 0)
            raise CoverError(
                f"pooler_heads {config.num_heads} do not divide the {width} features of a token; use {fitting}"
            )
        self.query_tokens = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(
            Block(Attention(width, config.num_heads), Mlp(width, MLP_RATIO * width), config.eps)
            for _ in range(config.depth)
        )
        self.cross_attention_block = CrossAttentionBlock(width, config.num_heads, config.eps)

    def forward(self, tokens: Sequence[Tensor]) -> Tensor:
        """Pool the tokens of clips.

        Args:
            tokens: The tokens [B, L, D] of clips of equal length, for each length.

        Returns:
            Features [B, D] of all clips, in the same order.
        """
        groups = tuple(Group(part.shape[1], part.shape[0]) for part in tokens)
        rows_F1D = torch.cat([part.flatten(0, 1) for part in tokens])[:, None]
        stream = Tokens.of(rows_F1D, compute_dtype(rows_F1D))
        residual = nothing_to_add(stream)
        for block in self.blocks:
            stream, residual = block(stream, residual, groups, (None, None))
        out: Tensor = self.cross_attention_block(self.query_tokens, stream, residual, groups)
        return out

    def init_weights(self) -> None:
        """Draw the query, and scale the layers that write to the residual stream by their depth, as published.

        Linear layers are initialised before.
        """
        nn.init.trunc_normal_(self.query_tokens, std=QUERY_STD)
        with torch.no_grad():
            for number, block in enumerate(self.blocks, 1):
                block = cast(Block, block)
                for layer in (block.attn.proj, block.mlp.fc2):
                    layer.weight.div_(math.sqrt(2 * number))
            self.cross_attention_block.mlp.fc2.weight.div_(math.sqrt(2 * max(1, len(self.blocks))))


class CrossAttentionBlock(nn.Module):
    """A learned query reads the tokens of each clip. Then comes an MLP.

    Args:
        width: The size of a token, D.
        num_heads: H.
        eps: Added to the variance in both layer norms.
    """

    def __init__(self, width: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.xattn = CrossAttention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, MLP_RATIO * width)

    def forward(self, query_11D: Tensor, tokens: Tokens, residual: Residual, groups: tuple[Group, ...]) -> Tensor:
        """Return a feature for each clip, [B, D].

        Args:
            query_11D: The query, which is not normalised.
            tokens: The tokens [F, 1, D], without `residual`.
            residual: What to add to them.
            groups: The tokens of a clip, and the number of clips, of each group.
        """
        _, normed_F1D = add_normalise(tokens, residual, groups, self.norm1.eps, float8=self.xattn.kv.float8)
        mixed_B1D = self.xattn(query_11D, normed_F1D, self.norm1, groups)
        pooled = Tokens.of(query_11D.expand(len(mixed_B1D), -1, -1), mixed_B1D.dtype)
        added = nothing_to_add(pooled)._replace(values=mixed_B1D)
        pooled, normed_B1D = add_normalise(pooled, added, groups, self.norm2.eps, float8=self.mlp.fc1.float8)
        out: Tensor = pooled.exact + self.mlp(normed_B1D, self.norm2) + self.mlp.fc2.bias
        return out[:, 0]


class CrossAttention(nn.Module):
    """Multi-head attention of one query to the tokens of each clip, without a linear layer behind it.

    Args:
        width: The size of a token, D.
        num_heads: H.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = Linear(width, width)
        self.kv = Linear(width, 2 * width)

    def forward(self, query_11D: Tensor, normed_F1D: Input, norm: nn.LayerNorm, groups: tuple[Group, ...]) -> Tensor:
        """Return what the query reads from each clip, [B, 1, D].

        Args:
            query_11D: The query.
            normed_F1D: Normalised tokens, as products read them.
            norm: The norm that gives the affine part.
            groups: The tokens of a clip, and the number of clips, of each group.
        """
        dtype = compute_dtype(normed_F1D.exact)
        query_1H1E = self.q(query_11D).to(dtype).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        kv_FD = linear(normed_F1D, *after_norm(norm, self.kv, dtype))[:, 0]
        mixed = []
        for part, (num_tokens, num_clips) in zip(kv_FD.split([t * b for t, b in groups]), groups, strict=True):
            kv = part.unflatten(0, (num_clips, num_tokens)).unflatten(-1, (2, self.num_heads, -1))
            key_BHLE, value_BHLE = kv.permute(2, 0, 3, 1, 4).unbind()
            mixed.append(F.scaled_dot_product_attention(query_1H1E.expand(num_clips, -1, -1, -1), key_BHLE, value_BHLE))
        return torch.cat(mixed).transpose(1, 2).flatten(2)


def features(backbone: Backbone, pooler: AttentivePooler | None, clips: PackedClips) -> Tensor:
    """Return what the heads read of each clip, [B, D]: the backbone's feature, or what is pooled of its tokens."""
    if pooler is None:
        feature_BD: Tensor = backbone(clips)
        return feature_BD
    assert isinstance(backbone, TokenBackbone)
    pooled_BD: Tensor = pooler(backbone.tokens(clips))
    return pooled_BD


def token_backbone(backbone: Backbone) -> TokenBackbone:
    """Return the backbone if it offers its tokens.

    Raises:
        CoverError: It does not.
    """
    if not isinstance(backbone, TokenBackbone):
        raise CoverError(
            f'model.head = "attentive" reads all tokens of a clip, and models of the family {backbone.config.family} '
            'offer only one feature; use head = "linear", or another family'
        )
    return backbone


def multiply_adds(width: int, num_tokens: int, depth: int) -> int:
    """Return the multiply-adds that pool one clip. Linear layers and attention are counted, as for backbones.

    Args:
        width: The size of a token, D.
        num_tokens: The tokens of the clip.
        depth: The blocks of self-attention.
    """
    block = num_tokens * (4 * width**2 + 2 * MLP_RATIO * width**2 + 2 * num_tokens * width)
    cross_attention = num_tokens * (2 * width**2 + 2 * width) + (1 + 2 * MLP_RATIO) * width**2
    return depth * block + cross_attention


def activation_bytes(width: int, num_tokens: int, depth: int, *, half: bool) -> float:
    """Estimate the bytes that the backward pass keeps for one clip. Cross-attention counts as a third of a block.

    Args:
        width: The size of a token, D.
        num_tokens: The tokens of the clip.
        depth: The blocks of self-attention.
        half: Whether the model computes in 16-bit precision.
    """
    return num_tokens * width * (depth + 1 / 3) * (HALF_BYTES_A_VALUE if half else FULL_BYTES_A_VALUE)
