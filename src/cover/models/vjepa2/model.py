"""V-JEPA 2 on packed clips of any lengths: tubelets, blocks with joint attention and rotary positions, and a norm.

Linear layers and norms run once over all tokens, attention once per distinct number of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from cover.config.families import TemporalInit
from cover.models.backbone import TokenBackbone
from cover.models.config import check_tubelets
from cover.models.kernels.residual import Tokens, join, normalised, nothing_to_add
from cover.models.layers import Mlp
from cover.models.packing import Group, PackedClips
from cover.models.vit.block import FULL_BYTES_A_VALUE, HALF_BYTES_A_VALUE, Attention, Block, branch_scales
from cover.models.vit.tubelets import TubeletEmbed, clip_tokens, tubelet_groups
from cover.models.vjepa2.config import VJEPA2Config
from cover.models.vjepa2.rotary import rotary

EMBEDDINGS = {"patch_embed", "patch_embed_img", "img_mod_embed", "video_mod_embed"}
KIND_STD = 1e-6
"""Standard deviation of the initial embeddings of the kinds of media, as published."""


class VJEPA2(TokenBackbone):
    """A V-JEPA 2. It accepts images, and clips of any resolution with a whole number of tubelets.

    An image is a clip of two equal frames in version 2; in version 2.1 it has an embedding of its own.

    Args:
        config: The configuration of the model.
    """

    config: VJEPA2Config

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.config = config
        width, eps = config.width, config.layer_norm_eps
        self.patch_embed = TubeletEmbed(config.tubelet_size, config.patch_size_px, width)
        self.embeds_images = config.version == "2.1"
        if self.embeds_images:
            self.patch_embed_img = TubeletEmbed(1, config.patch_size_px, width)
            self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, width))
            self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(
            Block(Attention(width, config.num_heads), Mlp(width, config.mlp_width), eps) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=eps)

    @property
    def width(self) -> int:
        """D, the width of a token."""
        return self.config.width

    def forward(self, clips: PackedClips) -> Tensor:
        """Encode clips.

        Args:
            clips: Clips of any lengths, packed.

        Returns:
            The mean of the normalised tokens of each clip, [B, D], in packed order.

        Raises:
            CoverError: A clip has a number of frames that the tubelets do not divide.
        """
        return torch.cat([tokens_BLD.mean(1) for tokens_BLD in self.tokens(clips)])

    def tokens(self, clips: PackedClips) -> list[Tensor]:
        """See TokenBackbone."""
        for num_frames, _ in clips.groups:
            check_tubelets(num_frames, self.config.tubelet_size, "V-JEPA 2")
        groups = tubelet_groups(clips.groups, self.config.tubelet_size)
        tokens = self._embed(clips)
        residual = nothing_to_add(tokens)
        height_px, width_px = clips.frames_FCYX.shape[2:]
        grid = height_px // self.config.patch_size_px, width_px // self.config.patch_size_px
        rotate = rotary(self.config, max(length for length, _ in groups), grid, self.norm.weight)
        rate = self.config.drop_path_rate if self.training else 0
        scales_of_blocks = branch_scales(clips.seeds_B, groups, self.config.depth, rate)
        for block, scales in zip(self.blocks, scales_of_blocks, strict=True):
            tokens, residual = block(tokens, residual, groups, scales, rotate)
        return clip_tokens(normalised(tokens, residual, groups, self.norm), groups)

    def num_tokens(self, num_frames: int, height_px: int, width_px: int) -> int:
        """See TokenBackbone."""
        num_patches = (height_px // self.config.patch_size_px) * (width_px // self.config.patch_size_px)
        return -(-num_frames // self.config.tubelet_size) * num_patches

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
        """See Backbone. Linear layers and attention are counted; norms, positions, GELU and softmax are not."""
        config, width = self.config, self.config.width
        num_tokens = self.num_tokens(num_frames, height_px, width_px)
        frames_of_token = 1 if num_frames == 1 else config.tubelet_size
        embedding = 3 * frames_of_token * config.patch_size_px**2 * width
        block = 4 * width**2 + 2 * width * config.mlp_width + 2 * num_tokens * width
        return num_tokens * (embedding + config.depth * block)

    def activation_bytes(self, num_frames: int, height_px: int, width_px: int, *, half: bool) -> float:
        """See Backbone. The estimate is proportional to tokens, blocks and width."""
        values = self.num_tokens(num_frames, height_px, width_px) * self.config.depth * self.config.width
        return values * (HALF_BYTES_A_VALUE if half else FULL_BYTES_A_VALUE)

    def init_weights(self, temporal_init: TemporalInit) -> None:
        """Scale the layers that write to the residual stream by their depth, and draw embeddings, as published.

        No layer only mixes frames, so `temporal_init` changes nothing.
        """
        with torch.no_grad():
            for number, block in enumerate(self.blocks, 1):
                block = cast(Block, block)
                for layer in (block.attn.proj, block.mlp.fc2):
                    layer.weight.div_(math.sqrt(2 * number))
        if self.embeds_images:
            for embedding in (self.img_mod_embed, self.video_mod_embed):
                nn.init.normal_(embedding, std=KIND_STD)

    def _embed(self, clips: PackedClips) -> Tokens:
        """Return the embedded tubelets of all clips."""
        if not self.embeds_images:
            values_FND, bias = self.patch_embed(clips)
            return Tokens.of(values_FND + bias, values_FND.dtype)
        is_image = [num_frames == 1 for num_frames, _ in clips.groups]
        num_videos = is_image.index(True) if any(is_image) else len(is_image)  # the longest come first, images last
        parts = [
            self._embed_kind(clips, slice(0, num_videos), self.patch_embed, self.video_mod_embed),
            self._embed_kind(clips, slice(num_videos, None), self.patch_embed_img, self.img_mod_embed),
        ]
        return join([part for part in parts if part is not None])

    def _embed_kind(self, clips: PackedClips, numbers: slice, layer: TubeletEmbed, kind_11D: Tensor) -> Tokens | None:
        """Return the embedded tubelets of the groups with these numbers, None if there are none.

        In training, a kind of media that is absent is embedded as no clips, so that its parameters get gradients.
        """
        groups = clips.groups[numbers]
        if not groups and not self.training:
            return None
        first = sum(t * b for t, b in clips.groups[: numbers.start])
        frames_FCYX = clips.frames_FCYX[first : first + sum(t * b for t, b in groups)]
        part = replace(clips, frames_FCYX=frames_FCYX, groups=groups or (Group(layer.proj.kernel_size[0], 0),))
        values_FND, bias = layer(part)
        return Tokens.of(values_FND + bias + kind_11D, values_FND.dtype)
