"""A block of a plain ViT over sequences of tokens, and its parts: attention with the shared kernels, and drop path.

Tokens are packed sequence by sequence. A group of B sequences of R rows each has B · R consecutive rows of N tokens, so
a sequence is attended without a copy. A row may be a tubelet's frame of N patches, or a single token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.models.drop_path import drop_path_scales
from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.products import Input, Weight, linear
from cover.models.kernels.qkv import qkv_linear
from cover.models.kernels.residual import Residual, Tokens, add_normalise
from cover.models.layers import Mlp
from cover.models.linear import Linear, after_norm, in_dtype
from cover.models.packing import Group

BRANCHES = 2
"""Residual branches of a block: attention, MLP."""
HALF_BYTES_A_VALUE, FULL_BYTES_A_VALUE = 41, 82
"""Bytes that the backward pass keeps per token, block and feature, without recomputation or torch.compile. In float32,
autograd saves 68, to which a fifth is added; bf16 takes half as much. Neither is measured on a GPU."""

Rotate = Callable[[Tensor], Tensor]
"""Turns the queries, and in another call the keys, of a group by their positions: [B, H, L, E] → the same shape."""


class Block(nn.Module):
    """Attention over each sequence, and MLP.

    A block first adds the residual of the block before it, and does not add that of its own MLP. So every residual is
    added and the sum normalised in one step (kernels/residual.py).

    Args:
        attention: The attention layer.
        mlp: The MLP.
        eps: Added to the variance in both layer norms.
    """

    def __init__(self, attention: Attention, mlp: Mlp, eps: float) -> None:
        super().__init__()
        width = attention.proj.out_features
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = mlp

    def forward(
        self,
        tokens: Tokens,
        residual: Residual,
        groups: tuple[Group, ...],
        scales: Sequence[Tensor | None],
        rotate: Rotate | None = None,
    ) -> tuple[Tokens, Residual]:
        """Run the block.

        Args:
            tokens: The tokens [F, N, D], without `residual`.
            residual: The output of the block before this one.
            groups: The rows of a sequence, and the number of sequences, of each group.
            scales: The drop-path factors of attention and MLP.
            rotate: Turns queries and keys by their positions.

        Returns:
            The tokens, and the residual that the next block adds to them.
        """
        tokens, normed_FND = add_normalise(tokens, residual, groups, self.norm1.eps, float8=self.attn.qkv.float8)
        values_FND = self.attn(normed_FND, self.norm1, groups, rotate)
        residual = Residual(values_FND, self.attn.proj.bias, scales[0], "all")
        tokens, normed_FND = add_normalise(tokens, residual, groups, self.norm2.eps, float8=self.mlp.fc1.float8)
        # A copy of the bias, because FSDP frees the parameters of a block before the next block adds them.
        return tokens, Residual(self.mlp(normed_FND, self.norm2), self.mlp.fc2.bias.clone(), scales[1], "all")


class Attention(nn.Module):
    """Multi-head attention over all tokens of each sequence.

    Args:
        width: The size of a token, D.
        num_heads: H.
        qkv_bias: Whether `qkv` has the bias of queries, keys and values. Otherwise a subclass provides it.
    """

    def __init__(self, width: int, num_heads: int, *, qkv_bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(width, 3 * width, bias=qkv_bias)
        self.proj = Linear(width, width)

    def forward(
        self, normed_FND: Input, norm: nn.LayerNorm, groups: tuple[Group, ...], rotate: Rotate | None = None
    ) -> Tensor:
        """Return the values of the residual, [F, N, D], without the bias of the output projection.

        Args:
            normed_FND: Normalised tokens, as products read them.
            norm: The norm that gives the affine part.
            groups: The rows of a sequence, and the number of sequences, of each group.
            rotate: Turns queries and keys by their positions.
        """
        dtype = compute_dtype(normed_FND.exact)
        weight, bias = self.qkv_after(norm, dtype)
        mixed = []
        for query, key, value in qkv_linear(normed_FND, weight, bias, self.num_heads, groups):
            if rotate is not None:
                query, key = rotate(query), rotate(key)
            mixed.append(self.mix(query, key, value, num_tokens=normed_FND.exact.shape[1]))
        mixed_FND, weight = mixed[0] if len(mixed) == 1 else torch.cat(mixed), in_dtype(self.proj, dtype)
        return linear(Input.of(mixed_FND, weight.forward), weight)

    def mix(self, query_BHLE: Tensor, key_BHLE: Tensor, value_BHLE: Tensor, *, num_tokens: int) -> Tensor:
        """Compute softmax attention of a group, as `attend` does: by default, over all tokens of each sequence."""
        return attend(query_BHLE, key_BHLE, value_BHLE, num_tokens=num_tokens)

    def qkv_after(self, norm: nn.LayerNorm, dtype: torch.dtype) -> tuple[Weight, Tensor]:
        """Return weight and bias of `qkv` with the affine part of the norm multiplied in."""
        return after_norm(norm, self.qkv, dtype)


def attend(query_BHLE: Tensor, key_BHLE: Tensor, value_BHLE: Tensor, *, num_tokens: int) -> Tensor:
    """Compute softmax attention over all tokens of each sequence.

    Args:
        query_BHLE: The queries of the sequences of a group.
        key_BHLE: Their keys.
        value_BHLE: Their values.
        num_tokens: N, the tokens of a row.

    Returns:
        The rows of the sequences, [F, N, D].
    """
    mixed_BHLE = F.scaled_dot_product_attention(query_BHLE, key_BHLE, value_BHLE)
    out: Tensor = mixed_BHLE.transpose(1, 2).flatten(2).flatten(0, 1).unflatten(0, (-1, num_tokens))
    return out


def branch_scales(
    seeds_B: Tensor, groups: tuple[Group, ...], depth: int, rate: float, branches: int = BRANCHES, first: int = 0
) -> list[tuple[Tensor | None, ...]]:
    """Return the drop-path factors of every block.

    Args:
        seeds_B: The seeds of the clips, each of which is one sequence.
        groups: The rows of a sequence, and the number of sequences, of each group.
        depth: The number of blocks.
        rate: The drop probability of the last block; 0 for none.
        branches: The residual branches of a block.
        first: The number of branches in other transformers of the model, before these.

    Returns:
        For each block the factors [F] of its branches, or None for no scaling.
    """
    if rate == 0:
        return [(None,) * branches] * depth
    parts = drop_path_scales(seeds_B, depth, branches, rate, first).split([num_clips for _, num_clips in groups], dim=2)
    rows = [part[..., None].expand(-1, -1, -1, r).flatten(2) for part, (r, _) in zip(parts, groups, strict=True)]
    return [tuple(scales_RF) for scales_RF in torch.cat(rows, dim=2)]
