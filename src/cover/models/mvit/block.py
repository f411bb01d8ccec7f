"""A block of MViT: attention that pools queries, keys and values, then an MLP, each in a residual branch.

    x = pool(x) + attention(LN(x))     the grid of tokens shrinks to that of the pooled queries
    x = x       + MLP(LN(x))

A stage that doubles the width projects x, too: from LN(x), before it is pooled or before the MLP is added.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.products import Input, linear
from cover.models.kernels.residual import Residual, Tokens, add_normalise
from cover.models.layers import Mlp
from cover.models.linear import Linear, after_norm
from cover.models.mvit.attention import Attention, BlockInput
from cover.models.mvit.config import BlockShape, MViTConfig
from cover.models.mvit.pooling import max_pool

BRANCHES = 2
"""Residual branches of a block: attention, MLP."""


class Block(nn.Module):
    """Pooling attention and MLP, with the published parameter names.

    A block first adds the residual of the block before it, and does not add that of its own MLP. So every residual is
    added and the sum normalised in one step (kernels/residual.py). Tokens are [R, 1, D]: every row by itself.

    Args:
        config: The configuration of the model.
        shape: What distinguishes this block.
    """

    def __init__(self, config: MViTConfig, shape: BlockShape) -> None:
        super().__init__()
        self.shape = shape
        self.norm1 = nn.LayerNorm(shape.width, eps=config.layer_norm_eps)
        self.attn = Attention(config, shape)
        self.norm2 = nn.LayerNorm(shape.attention_width, eps=config.layer_norm_eps)
        self.mlp = Mlp(shape.attention_width, 4 * shape.attention_width, out_width=shape.out_width)
        self.proj = Linear(shape.width, shape.out_width) if shape.width != shape.out_width else None

    def forward(self, tokens: Tokens, residual: Residual | None, at: BlockInput) -> tuple[Tokens, Residual]:
        """Run the block.

        Args:
            tokens: The tokens, without `residual`.
            residual: The output of the block before this one; None for the first block.
            at: The sizes of the clips, and what belongs to them.

        Returns:
            The tokens on the pooled grids, and the residual that the next block adds to them.
        """
        float8 = self.attn.qkv.float8
        if residual is None:
            exact = tokens.exact
            normed = F.layer_norm(exact, exact.shape[-1:], eps=self.norm1.eps).to(compute_dtype(exact))
            weight, _ = after_norm(self.norm1, self.attn.qkv, normed.dtype)
            normed_R1D = Input.of(normed, weight.forward)
        else:
            tokens, normed_R1D = add_normalise(tokens, residual, (), self.norm1.eps, float8=float8)
        values_R1D = self.attn(normed_R1D, self.norm1, at)
        if self.shape.attention_width != self.shape.width:
            tokens = self._projected(normed_R1D, self.norm1)
        if self.shape.stride > 1:
            pooled = max_pool(tokens.exact[:, 0], at.grids, self.shape.stride)
            tokens = Tokens.of(pooled[:, None], values_R1D.dtype)
        residual = Residual(values_R1D, self.attn.proj.bias, at.scales[0], "all")
        tokens, normed_R1D = add_normalise(tokens, residual, (), self.norm2.eps, float8=float8)
        values_R1D = self.mlp(normed_R1D, self.norm2)
        if self.shape.out_width != self.shape.attention_width:
            tokens = self._projected(normed_R1D, self.norm2)
        # A copy of the bias, because FSDP frees the parameters of a block before the next block adds them.
        return tokens, Residual(values_R1D, self.mlp.fc2.bias.clone(), at.scales[1], "all")

    def _projected(self, normed_R1D: Input, norm: nn.LayerNorm) -> Tokens:
        """Return the projection of normalised tokens to the width after the block."""
        dtype = compute_dtype(normed_R1D.exact)
        weight, bias = after_norm(norm, cast(Linear, self.proj), dtype)
        wide = linear(normed_R1D, weight, bias)
        return Tokens.of(wide.to(torch.promote_types(wide.dtype, torch.float32)), dtype)
