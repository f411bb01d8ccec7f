"""TimeSformer on packed frames of any clip lengths: embeddings, blocks, and the class token of each clip.

A space-only model treats every frame as a clip, and averages the class tokens of a clip's frames at the end.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import partial
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from cover.config.families import TemporalInit
from cover.models.backbone import Resize, TokenBackbone
from cover.models.config import ModelConfig
from cover.models.drop_path import drop_path_scales
from cover.models.kernels.residual import Residual, Tokens, join, normalised
from cover.models.layers import follow_weights, normalise_tokens, pre_norm
from cover.models.packing import PackedClips, clip_means, spread, unpack
from cover.models.timesformer.block import Block, BranchScales, LastBlock
from cover.models.timesformer.config import TimeSformerConfig
from cover.models.timesformer.embeddings import PatchEmbed, resize_pos_embed, time_embed_for

EMBEDDINGS = {"patch_embed", "norm_pre", "cls_token", "pos_embed", "time_embed"}
TOKEN_STD = 0.02
"""Standard deviation of the initial class token and position embedding."""
RANDOM_TIME_STD = 0.1
"""Standard deviation of the initial time embedding for temporal_init = "random". It is so large that the model sees
frame order from the first step."""
HALF_BYTES_A_VALUE, FULL_BYTES_A_VALUE = 55, 110
"""Bytes that the backward pass keeps per token, block and feature, without recomputation or torch.compile. For bf16 the
number is measured, for Base at 8 × 224 (docs/log.md); for float32 it follows from the size of its numbers."""


class TimeSformer(TokenBackbone):
    """A TimeSformer. It accepts clips of any length and resolution, and resizes its embeddings to fit.

    Args:
        config: The configuration of the model.
    """

    config: TimeSformerConfig
    norm_pre: nn.LayerNorm | None

    def __init__(self, config: TimeSformerConfig) -> None:
        super().__init__()
        self.config = config
        width, num_patches = config.width, config.grid_size**2
        self.patch_embed = PatchEmbed(config.patch_size_px, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + num_patches, width))
        if config.attention != "space_only":
            self.time_embed = nn.Parameter(torch.zeros(1, config.num_frames, width))
        self.register_module("norm_pre", pre_norm(config))
        self.blocks = nn.ModuleList([*(Block(config) for _ in range(config.depth - 1)), LastBlock(config)])
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    @property
    def width(self) -> int:
        """D, the width of the class token."""
        return self.config.width

    def forward(self, clips: PackedClips) -> Tensor:
        """Encode clips.

        Args:
            clips: Clips of any lengths, packed.

        Returns:
            The class token of each clip after the final norm, [B, D], in packed order. For a space-only model it is the
            mean of the frames' class tokens before the norm, as in the published code.
        """
        class_BD = self._through_blocks(clips)
        if self.config.attention == "space_only":
            class_BD = clip_means(class_BD, clips.groups)
        out: Tensor = self.norm(class_BD)
        return out

    def tokens(self, clips: PackedClips) -> list[Tensor]:
        """See TokenBackbone. They are the patches of all frames, frame by frame."""
        tokens, residual = self._through_blocks(clips, all_tokens=True)
        patches_FND = normalised(tokens, residual, clips.groups, self.norm)[:, 1:]
        return [part.transpose(0, 1).flatten(1, 2) for part in unpack(patches_FND, clips.groups)]

    def num_tokens(self, num_frames: int, height_px: int, width_px: int) -> int:
        """See TokenBackbone."""
        return num_frames * self._num_patches(height_px, width_px)

    def _through_blocks(self, clips: PackedClips, **last: bool) -> Any:
        """Return what the last block does, called with `last`."""
        tokens, residual = self._embed(clips)
        if self.norm_pre is not None:
            tokens, residual = normalise_tokens(self.norm_pre, tokens, residual, clips.groups)
        *blocks, last_block = zip(self.blocks, self._branch_scales(clips), strict=True)
        for block, scales in blocks:
            tokens, residual = block(tokens, residual, clips.groups, scales)
        block, scales = last_block
        return block(tokens, residual, clips.groups, scales, **last)

    def units(self) -> Sequence[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the embeddings, i + 1 for block i, and `num_layers` for the final norm."""
        place, *rest = parameter.split(".")
        return 0 if place in EMBEDDINGS else 1 + int(rest[0]) if place == "blocks" else self.num_layers

    @property
    def num_layers(self) -> int:
        """The number of the layer after the last block."""
        return self.config.depth + 1

    def multiply_adds(self, num_frames: int, height_px: int, width_px: int) -> int:
        """See Backbone. A linear layer takes tokens · in · out, attention takes 2 · sequences · length² · width.

        Norms, GELU and softmax are not counted. This implementation differs from the count by a few per cent: it
        multiplies two temporal layers into one, keeps a class token in every frame, and computes only the class token
        in the last block.
        """
        config, width = self.config, self.config.width
        num_patches = self._num_patches(height_px, width_px)
        all_patches = num_frames * num_patches
        joint, space_only = config.attention == "joint", config.attention == "space_only"
        sequences, length = (1, 1 + all_patches) if joint else (num_frames, 1 + num_patches)
        tokens = num_frames * (1 + num_patches) if space_only else 1 + all_patches
        temporal = all_patches * (5 * width**2 + 2 * num_frames * width) if config.attention == "divided" else 0
        if num_frames == 1 and self._has_image_fc:
            temporal = all_patches * width**2
        attention = sequences * length * (4 * width**2 + 2 * length * width)
        embedding = all_patches * 3 * config.patch_size_px**2 * width
        return embedding + config.depth * (temporal + attention + tokens * 8 * width**2)

    def activation_bytes(self, num_frames: int, height_px: int, width_px: int, *, half: bool) -> float:
        """See Backbone. The estimate is proportional to tokens, blocks and width."""
        values = num_frames * (1 + self._num_patches(height_px, width_px)) * self.config.depth * self.config.width
        return values * (HALF_BYTES_A_VALUE if half else FULL_BYTES_A_VALUE)

    def normalise_as(self, config: ModelConfig) -> None:
        """See Backbone."""
        super().normalise_as(config)
        follow_weights(self, self.config)

    def init_weights(self, temporal_init: TemporalInit) -> None:
        """Draw the embeddings. With "zero", temporal_fc and the time embedding start at zero, as published."""
        for block in self.blocks:
            if temporal_init == "zero" and isinstance(block, Block) and block.temporal:
                nn.init.zeros_(block.temporal_fc.weight)
            if isinstance(block, Block) and self._has_image_fc:
                block.start_image_fc()
        nn.init.trunc_normal_(self.cls_token, std=TOKEN_STD)
        nn.init.trunc_normal_(self.pos_embed, std=TOKEN_STD)
        if temporal_init == "random" and self.config.attention != "space_only":
            nn.init.trunc_normal_(self.time_embed, std=RANDOM_TIME_STD)

    def start_from(self, name: str, available: Collection[str], temporal_init: TemporalInit) -> str | None:
        """See Backbone. If the source has no temporal layers, they start from the spatial layers.

        With "zero" norm and attention do, as published; with "random" only the norm does.
        """
        if name in available:
            return name
        spatial = re.sub(r"\.temporal_(attn|norm1)\.", r".\1.", name)
        return spatial if spatial in available and (temporal_init == "zero" or "norm" in name) else None

    def starts_at_zero(self, name: str, temporal_init: TemporalInit) -> bool:
        """See Backbone. With "zero", these are temporal_fc and the time embedding."""
        return temporal_init == "zero" and bool(re.search(r"temporal_fc|time_embed", name))

    def derive(self, lacking: Collection[str]) -> None:
        """See Backbone. These are the linear layers that images have instead of the temporal ones."""
        for number, block in enumerate(self.blocks):
            if isinstance(block, Block) and f"blocks.{number}.image_fc.weight" in lacking:
                block.start_image_fc()

    def resized(self, name: str, tensor: Tensor, target: Tensor, resize: Resize, source: ModelConfig) -> Tensor:
        """See Backbone. Only position and time embeddings can differ in size."""
        if tensor.shape == target.shape:
            return tensor
        if name == "pos_embed":
            side = isqrt(target.shape[1] - 1)
            return resize_pos_embed(tensor, (side, side), resize)
        return time_embed_for(tensor, target.shape[1], resize)

    @property
    def _has_image_fc(self) -> bool:
        return self.config.attention == "divided" and self.config.image_temporal == "linear"

    def _num_patches(self, height_px: int, width_px: int) -> int:
        """Return the number of patches of a frame."""
        patch_px = self.config.patch_size_px
        return (height_px // patch_px) * (width_px // patch_px)

    def _embed(self, packed: PackedClips) -> tuple[Tokens, Residual]:
        """Return the embeddings of class token, position and time, and as residual the patches to add to them."""
        patch_px = self.config.patch_size_px
        grid = tuple(side // patch_px for side in packed.frames_FCYX.shape[2:])
        place_1ND = resize_pos_embed(self.pos_embed, grid)
        class_11D, place_1ND = self.cls_token + place_1ND[:, :1], place_1ND[:, 1:]
        values_FND, bias = self.patch_embed(packed.frames_FCYX, packed.mean_C11, packed.std_C11)
        parts = []
        for num_frames, num_clips in packed.groups:
            place_TND = place_1ND.expand(num_frames, -1, -1)
            if self.config.attention != "space_only":
                place_TND = place_TND + time_embed_for(self.time_embed, num_frames).transpose(0, 1)
            tokens = Tokens.of(torch.cat([class_11D.expand(num_frames, -1, -1), place_TND], 1), values_FND.dtype)
            parts.append(tokens.map(partial(torch.repeat_interleave, repeats=num_clips, dim=0)))
        return join(parts), Residual(values_FND, bias, None, "patches")

    def _branch_scales(self, packed: PackedClips) -> list[BranchScales]:
        """Return the factors of each block's branches: drop path, and 0 for temporal layers that images skip."""
        depth, rate = self.config.depth, self.config.drop_path_rate
        scales = [BranchScales(None, None, None)] * depth
        if self.training and rate > 0:
            scales_LRB = drop_path_scales(packed.seeds_B, depth, len(BranchScales._fields), rate)
            scales_LRF = spread(scales_LRB.permute(2, 0, 1), packed.groups).permute(1, 2, 0)
            scales = [BranchScales(*scales_RF.contiguous()) for scales_RF in scales_LRF]
        if self.config.image_temporal == "skip":
            # A factor of 0, because every parameter must be in the graph of every batch.
            is_video_B = torch.cat([self.pos_embed.new_full((b,), float(t > 1)) for t, b in packed.groups])
            is_video_F = spread(is_video_B, packed.groups)
            scales = [
                scale._replace(temporal=is_video_F if scale.temporal is None else is_video_F * scale.temporal)
                for scale in scales
            ]
        return scales
