"""A block of TimeSformer, exactly as published (Bertasius et al. 2021), on packed frames of any clip lengths.

With divided attention ([c] is the class token, p the patches of a frame, LN a layer norm):

    [c | p]  p += temporal_fc(temporal attention(LN(p)))        over the frames of a clip, for each patch position
    [c | p] += spatial attention(LN([c | p]))                   in each frame; c's residual averaged over the frames
    [c | p] += MLP(LN([c | p]))

With joint attention, one attention over c and the patches of all frames replaces the first two lines. With space-only
attention there is no first line, and every frame is treated as a clip.

Every frame has a copy of its clip's class token, and the copies stay equal. This saves separating and rejoining class
token and patches twice per block.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.products import Input, linear
from cover.models.kernels.residual import Receivers, Residual, Tokens, add_normalise
from cover.models.layers import APPROXIMATE, Mlp
from cover.models.linear import Linear, after_norm
from cover.models.packing import Group, clip_means, first_frames
from cover.models.timesformer.attention import JointAttention, SpatialAttention, TemporalAttention
from cover.models.timesformer.config import TimeSformerConfig


class BranchScales(NamedTuple):
    """The drop-path factors of a block's residual branches, each [F] or None (no scaling).

    Attributes:
        temporal: Of temporal attention.
        attention: Of spatial or joint attention.
        mlp: Of the MLP.
    """

    temporal: Tensor | None
    attention: Tensor | None
    mlp: Tensor | None


class Block(nn.Module):
    """Temporal attention (divided only), spatial or joint attention, and MLP, with the published parameter names.

    A block first adds the residual of the block before it, and does not add that of its own MLP. So every residual is
    added and the sum normalised in one step (kernels/residual.py).
    """

    def __init__(self, config: TimeSformerConfig) -> None:
        super().__init__()
        width, num_heads = config.width, config.num_heads
        self.temporal, self.joint = config.attention == "divided", config.attention == "joint"
        self.norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attn = (JointAttention if self.joint else SpatialAttention)(width, num_heads)
        if self.temporal:
            self.temporal_norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
            self.temporal_attn = TemporalAttention(width, num_heads)
            self.temporal_fc = Linear(width, width)
            if config.image_temporal == "linear":
                self.image_fc = Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = Mlp(width, 4 * width, APPROXIMATE[config.activation])

    def forward(
        self, tokens: Tokens, residual: Residual, groups: tuple[Group, ...], scales: BranchScales
    ) -> tuple[Tokens, Residual]:
        """Run the block.

        Args:
            tokens: The tokens [F, 1+N, D], without `residual`.
            residual: The output of the block before this one.
            groups: The layout of the frames.
            scales: The drop-path factors of this block.

        Returns:
            The tokens, and the residual that the next block adds to them.
        """
        if self.temporal:
            tokens, residual = self._temporal(tokens, residual, groups, scales)
        tokens, normed_FND = add_normalise(tokens, residual, groups, self.norm1.eps, float8=self.attn.qkv.float8)
        values_FND = self.attn(normed_FND, self.norm1, groups)
        receivers: Receivers = "clips" if self.temporal else "all"
        residual = Residual(values_FND, self.attn.proj.bias, scales.attention, receivers)
        tokens, normed_FND = add_normalise(tokens, residual, groups, self.norm2.eps, float8=self.mlp.fc1.float8)
        # A copy of the bias, because FSDP frees the parameters of a block before the next block adds them.
        return tokens, Residual(self.mlp(normed_FND, self.norm2), self.mlp.fc2.bias.clone(), scales.mlp, "all")

    def _temporal(
        self, tokens: Tokens, residual: Residual, groups: tuple[Group, ...], scales: BranchScales
    ) -> tuple[Tokens, Residual]:
        tokens, normed_FND = add_normalise(
            tokens, residual, groups, self.temporal_norm1.eps, float8=self.temporal_attn.qkv.float8
        )
        values_FND, bias = self.temporal_attn(normed_FND, self.temporal_norm1, self.temporal_fc, groups)
        if hasattr(self, "image_fc"):
            values_FND, bias = self._with_images(values_FND, bias, normed_FND, groups)
        return tokens, Residual(values_FND, bias, scales.temporal, "patches")

    def _with_images(
        self, values_FND: Tensor, bias: Tensor, normed_FND: Input, groups: tuple[Group, ...]
    ) -> tuple[Tensor, Tensor]:
        """Return the values with those of `image_fc` for images, which come last, and the bias to add to all."""
        weight, own_bias = after_norm(self.temporal_norm1, self.image_fc, compute_dtype(normed_FND.exact))
        number = groups[-1].num_clips if groups[-1].num_frames == 1 else 0
        if not number:  # every parameter must be in the graph of every batch
            return values_FND, bias + 0 * own_bias
        images_FND = linear(normed_FND.last_frames(number), weight, own_bias - bias.to(own_bias.dtype))
        return torch.cat([values_FND[:-number], images_FND]), bias

    @torch.no_grad()
    def start_image_fc(self) -> None:
        """Give `image_fc` the effect of the temporal layers on an image: over one key, the softmax is 1."""
        attn, fc = self.temporal_attn, self.temporal_fc
        value, value_bias = (part.chunk(3)[2] for part in (attn.qkv.weight, attn.qkv.bias))
        self.image_fc.weight.copy_(fc.weight @ attn.proj.weight @ value)
        self.image_fc.bias.copy_(fc.weight @ (attn.proj.weight @ value_bias + attn.proj.bias) + fc.bias)


class LastBlock(Block):
    """The last block. Only its class token is used, so everything after its attention is computed for that alone."""

    def forward(  # type: ignore[override]
        self,
        tokens: Tokens,
        residual: Residual,
        groups: tuple[Group, ...],
        scales: BranchScales,
        *,
        all_tokens: bool = False,
    ) -> Tensor | tuple[Tokens, Residual]:
        """Return the class token of each clip, [B, D]; with space-only attention, of each frame, [F, D].

        With `all_tokens` it is a block like the others.
        """
        if all_tokens:
            return super().forward(tokens, residual, groups, scales)
        if self.temporal:
            tokens, residual = self._temporal(tokens, residual, groups, scales)
        tokens, normed_FND = add_normalise(tokens, residual, groups, self.norm1.eps, float8=self.attn.qkv.float8)
        values_FD: Tensor = self.attn.of_class_token(normed_FND, self.norm1, groups)
        tokens = tokens.map(lambda part: part[:, :1])
        if self.temporal or self.joint:
            values_FD, tokens = clip_means(values_FD, groups), tokens.map(lambda part: first_frames(part, groups))
            scales = BranchScales(*(None if scale is None else first_frames(scale, groups) for scale in scales))
        residual = Residual(values_FD[:, None], self.attn.proj.bias, scales.attention, "all")
        tokens, normed_F1D = add_normalise(tokens, residual, groups, self.norm2.eps, float8=self.mlp.fc1.float8)
        values_FD = self.mlp(normed_F1D, self.norm2)[:, 0] + self.mlp.fc2.bias
        return tokens.exact[:, 0] + (values_FD if scales.mlp is None else values_FD * scales.mlp[:, None])
