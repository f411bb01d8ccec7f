"""Attention with pooled queries, keys and values, and relative positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.pooling import SIDE
from cover.models.kernels.products import Input, linear
from cover.models.linear import Linear, after_norm, in_dtype
from cover.models.mvit.config import BlockShape, MViTConfig
from cover.models.mvit.pooling import Grid, HeadPool, split_rows
from cover.models.mvit.positions import Distances, relative_scores

WIDTH_MULTIPLE = 8
"""Fast attention takes heads of a multiple of this width. Beyond 256, torch chooses a slower one by itself."""


class BlockInput(NamedTuple):
    """What a block reads beside the tokens.

    Attributes:
        grids: The sizes of the clips before the block.
        distances: For each grid, the distances of its pooled queries and keys; None in version 1.
        scales: The drop-path factors of attention and MLP for each row after pooling, [R]; None for no scaling.
    """

    grids: tuple[Grid, ...]
    distances: tuple[Distances | None, ...]
    scales: tuple[Tensor | None, Tensor | None]


class Attention(nn.Module):
    """Multi-head attention, with the published parameter names.

    Args:
        config: The configuration of the model.
        shape: What distinguishes the block.
    """

    def __init__(self, config: MViTConfig, shape: BlockShape) -> None:
        super().__init__()
        width, head = shape.attention_width, config.head_width
        self.shape, self.head_width, self.adds_queries = shape, head, config.version == 2
        self.qkv = Linear(shape.width, 3 * width)
        self.proj = Linear(width, width)
        kernel = (config.kernel_frames, SIDE, SIDE)
        for name in "qkv" if shape.pools_queries else "kv":
            setattr(self, f"pool_{name}", nn.Conv3d(head, head, kernel, groups=head, bias=False))
            setattr(self, f"norm_{name}", nn.LayerNorm(head, eps=config.layer_norm_eps))
        if config.version == 2:
            of_side, of_time = shape.table_rows
            self.rel_pos_h = nn.Parameter(torch.zeros(of_side, head))
            self.rel_pos_w = nn.Parameter(torch.zeros(of_side, head))
            self.rel_pos_t = None if config.images_only else nn.Parameter(torch.zeros(of_time, head))

    def forward(self, normed_R1D: Input, norm: nn.LayerNorm, at: BlockInput) -> Tensor:
        """Return the values of the residual, without the bias of the output projection.

        Args:
            normed_R1D: Normalised tokens, as products read them.
            norm: The norm that gives the affine part.
            at: The sizes of the clips, and what belongs to them.
        """
        dtype, width = compute_dtype(normed_R1D.exact), self.shape.attention_width
        weight, bias = after_norm(norm, self.qkv, dtype)
        # Two products, so that each convolution reads tokens that lie next to each other.
        queries_RD = linear(normed_R1D, weight.part(slice(width)), bias[:width])[:, 0]
        pairs_RD = linear(normed_R1D, weight.part(slice(width, 3 * width)), bias[width:])[:, 0]
        queries, class_queries = self._pooled(queries_RD, at.grids, "q", self.shape.stride)
        pairs, class_pairs = self._pooled(pairs_RD, at.grids, "kv", self.shape.kv_stride)
        mixed = map(self._attend, queries, class_queries, pairs, class_pairs, at.distances)
        tokens, class_tokens = zip(*mixed, strict=True)
        weight = in_dtype(self.proj, dtype)
        return linear(Input.of(torch.cat([*tokens, *class_tokens])[:, None], weight.forward), weight)

    def _pooled(
        self, rows_RD: Tensor, grids: Sequence[Grid], names: str, stride: int
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """Pool and normalise queries, or keys and values.

        Args:
            rows_RD: Their values for all tokens.
            grids: The sizes of the clips.
            names: "q", or "kv" for both together.
            stride: Of the convolution.

        Returns:
            For each grid [B, T, Y, X, names, H, E], and its class tokens [B, names, H, E], which are not pooled.
        """
        parts, class_rows = split_rows(rows_RD, grids)
        shape = len(names), self.shape.num_heads, self.head_width
        heads, class_heads = [part.unflatten(-1, shape) for part in parts], class_rows.unflatten(-1, shape)
        if names != "q" or self.shape.pools_queries:
            pool = HeadPool.of([self.get_submodule(f"pool_{name}") for name in names],
                               [self.get_submodule(f"norm_{name}") for name in names], stride)  # fmt: skip
            heads, class_heads = [pool(part) for part in heads], pool.normalise(class_heads)
        num_clips = [grid.num_clips if len(class_rows) else 0 for grid in grids]
        return heads, class_heads.split(num_clips)

    def _attend(
        self, query: Tensor, class_query: Tensor, pair: Tensor, class_pair: Tensor, where: Distances | None
    ) -> tuple[Tensor, Tensor]:
        """Attend within clips of equal size.

        Args:
            query: [B, T, Y, X, 1, H, E].
            class_query: [B, 1, H, E], or no rows if there is no class token.
            pair: Keys and values, [B, T', Y', X', 2, H, E].
            class_pair: [B, 2, H, E], or no rows.
            where: The distances of queries and keys; None in version 1.

        Returns:
            The mixed tokens [B · T · Y · X, D], and class tokens [B, D].
        """
        query_BTYXHE, pair_BL2HE = query[..., 0, :, :], pair.flatten(1, 3)
        if len(class_pair):
            pair_BL2HE = torch.cat([class_pair[:, None], pair_BL2HE], 1)
        key_BLHE, value_BLHE = pair_BL2HE.unbind(2)
        scores = [] if where is None else relative_scores(query_BTYXHE, self._tables(), where)
        longer = sum(part.shape[-1] for part in scores)
        longer += -(self.head_width + longer) % WIDTH_MULTIPLE
        if longer:
            places_LP = where.places_LP if where else query.new_zeros(pair.shape[1:4].numel(), 0)
            # A class token is at no place.
            places_LP = F.pad(places_LP, (0, longer - places_LP.shape[1], len(class_pair) and 1, 0))
            places_BLHP = places_LP.to(query.dtype)[:, None].expand(*key_BLHE.shape[:3], -1)
            key_BLHE, value_BLHE = torch.cat([key_BLHE, places_BLHP], -1), F.pad(value_BLHE, (0, longer))
        longer_query = lengthen(query_BTYXHE, scores, longer).flatten(1, 3)
        mixed_BLHE = attend(longer_query, key_BLHE, value_BLHE, self.head_width)
        if self.adds_queries:
            mixed_BLHE = mixed_BLHE + query_BTYXHE.flatten(1, 3)
        if len(class_query):
            class_query = attend(F.pad(class_query, (0, longer)), key_BLHE, value_BLHE, self.head_width)
        return mixed_BLHE.flatten(2).flatten(0, 1), class_query.flatten(1)

    def _tables(self) -> tuple[Tensor | None, Tensor, Tensor]:
        """Return the tables of relative positions in time, rows and columns."""
        return self.rel_pos_t, self.rel_pos_h, self.rel_pos_w


def lengthen(query_BTYXHE: Tensor, scores: Sequence[Tensor], longer: int) -> Tensor:
    """Append scores, and zeros until queries are `longer` than before."""
    rest = longer - sum(part.shape[-1] for part in scores)
    if rest:
        scores = [*scores, query_BTYXHE.new_zeros(1).expand(*query_BTYXHE.shape[:-1], rest)]
    return torch.cat([query_BTYXHE, *scores], -1) if scores else query_BTYXHE


def attend(query_BLHP: Tensor, key_BLHP: Tensor, value_BLHP: Tensor, width: int) -> Tensor:
    """Compute softmax attention.

    Args:
        query_BLHP: Queries, longer than `width` by the scores of relative positions.
        key_BLHP: Keys of the same length.
        value_BLHP: Values, filled up to the same length with zeros.
        width: E, the features of a head.

    Returns:
        [B, L, H, E].
    """
    query, key, value = (part.transpose(1, 2) for part in (query_BLHP, key_BLHP, value_BLHP))
    mixed_BHLP = F.scaled_dot_product_attention(query, key, value, scale=width**-0.5)
    return mixed_BHLP.transpose(1, 2)[..., :width]
