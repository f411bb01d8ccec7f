"""MViT on packed clips of any lengths: overlapping tubelets, stages of blocks that pool, and the class or mean token.

An image is a clip of one frame, and has one slot of time. It meets only the middle of each kernel over time, so the
rest is left out. A frame that is repeated is another clip, with another answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.config.families import TemporalInit
from cover.models.backbone import Resize, TokenBackbone
from cover.models.config import ModelConfig
from cover.models.drop_path import drop_path_scales
from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.pooling import SIDE
from cover.models.kernels.residual import Residual, Tokens
from cover.models.mvit.attention import BlockInput
from cover.models.mvit.block import BRANCHES, Block
from cover.models.mvit.config import PATCH_KERNEL, PATCH_STRIDE, MViTConfig
from cover.models.mvit.pooling import Grid, Size, middle
from cover.models.mvit.positions import Distances, distances, resize_space, resize_table, resize_time
from cover.models.packing import PackedClips, unpack

INIT_STD = 0.02
"""Standard deviation of initial weights of convolutions, positions and the class token."""
HALF_BYTES_A_VALUE, FULL_BYTES_A_VALUE = 30, 60
"""Bytes that the backward pass keeps per feature of a token at the input and output of a block. In float32, autograd
saves 46 (S, 16 × 224²) to 64 (8 × 112²); bf16 takes half as much. Neither is measured on a GPU."""


class MViT(TokenBackbone):
    """An MViT. It accepts images, and clips of any length and resolution.

    For another grid than that of the weights, relative positions are resized linearly, as in the published code, which
    resizes absolute positions when it loads weights: bicubically in space, linearly in time.

    Args:
        config: The configuration of the model.
    """

    config: MViTConfig

    def __init__(self, config: MViTConfig) -> None:
        super().__init__()
        self.config = config
        slots, side = config.patch_grid
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width)) if config.class_token else None
        self.pos_embed_class = None
        if config.version == 1:
            self.pos_embed_spatial = nn.Parameter(torch.zeros(1, side**2, config.width))
            self.pos_embed_temporal = None if config.images_only else nn.Parameter(torch.zeros(1, slots, config.width))
            if config.class_token:
                self.pos_embed_class = nn.Parameter(torch.zeros(1, 1, config.width))
        self.blocks = nn.ModuleList(Block(config, shape) for shape in config.block_shapes())
        self.norm = nn.LayerNorm(config.last_width, eps=config.layer_norm_eps)

    @property
    def width(self) -> int:
        """D, the size of a token in the last stage."""
        return self.config.last_width

    def forward(self, clips: PackedClips) -> Tensor:
        """Encode clips.

        Args:
            clips: Clips of any lengths, packed.

        Returns:
            The normalised class token of each clip, or the mean of its normalised tokens: [B, D], in packed order.
        """
        tokens, residual, grids = self._encoded(clips)
        if not self.config.class_token:
            return torch.cat([part_BLD.mean(1) for part_BLD in self._normed(tokens, residual, grids)])
        first, num_clips = sum(grid.num_rows for grid in grids), sum(grid.num_clips for grid in grids)
        out: Tensor = self.norm(self._exact(tokens, residual, first, num_clips))
        return out

    def tokens(self, clips: PackedClips) -> list[Tensor]:
        """See TokenBackbone."""
        return self._normed(*self._encoded(clips))

    def num_tokens(self, num_frames: int, height_px: int, width_px: int) -> int:
        """See TokenBackbone."""
        grid = self._grid(num_frames, height_px, width_px)
        for shape in self.config.block_shapes():
            grid = grid.pooled(shape.stride)
        return prod(grid.size)

    def _encoded(self, clips: PackedClips) -> tuple[Tokens, Residual, tuple[Grid, ...]]:
        """Return what the last block returns, and the sizes of the clips after it."""
        parts = self.patch_embed(clips)
        grids = tuple(Grid((part.shape[1], part.shape[2], part.shape[3]), len(part)) for part in parts)
        tokens, residual = self._first_tokens(parts), None
        distances_of = DistanceCache(tokens.values.device)
        for block, scales in zip(self._blocks(), self._drop_path_scales(clips.seeds_B), strict=True):
            pooled = tuple(grid.pooled(block.shape.stride) for grid in grids)
            keys = tuple(grid.pooled(block.shape.kv_stride) for grid in grids)
            where = distances_of(pooled, keys) if self.config.version == 2 else (None,) * len(grids)
            at = BlockInput(grids, where, (None, None) if scales is None else self._for_rows(scales, pooled))
            tokens, residual = block(tokens, residual, at)
            grids = pooled
        assert residual is not None
        return tokens, residual, grids

    def units(self) -> Sequence[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def layer_of(self, parameter: str) -> int:
        """Return 0 for patches, class token and positions, i + 1 for block i, and `num_layers` for the final norm."""
        place, *rest = parameter.split(".")
        return 1 + int(rest[0]) if place == "blocks" else self.num_layers if place == "norm" else 0

    @property
    def num_layers(self) -> int:
        """The number of the layer after the last block."""
        return len(self.blocks) + 1

    def multiply_adds(self, num_frames: int, height_px: int, width_px: int) -> int:
        """See Backbone. Linear layers, convolutions, attention and relative positions are counted.

        Norms, GELU, softmax and maxima are not.
        """
        grid = self._grid(num_frames, height_px, width_px)
        span = 1 if num_frames == 1 else self.config.kernel_frames
        taps = SIDE**2 * (1 if grid.size[0] == 1 else self.config.kernel_frames)
        total = prod(grid.size) * 3 * span * prod(PATCH_KERNEL[1:]) * self.config.width
        others = int(self.config.class_token)
        for shape in self.config.block_shapes():
            queries, keys = grid.pooled(shape.stride).size, grid.pooled(shape.kv_stride).size
            width, before, after = shape.attention_width, prod(grid.size) + others, prod(queries) + others
            total += 3 * before * shape.width * width
            total += taps * width * (2 * prod(keys) + prod(queries) * shape.pools_queries)
            total += 2 * after * (prod(keys) + others) * width
            if self.config.version == 2:
                total += prod(queries) * sum(keys) * width
            total += after * width * (width + 4 * width + 4 * shape.out_width)
            if shape.width != shape.out_width:
                total += (before if width != shape.width else after) * shape.width * shape.out_width
            grid = grid.pooled(shape.stride)
        return total

    def activation_bytes(self, num_frames: int, height_px: int, width_px: int, *, half: bool) -> float:
        """See Backbone. The estimate is proportional to the tokens and widths of the blocks."""
        grid, values = self._grid(num_frames, height_px, width_px), 0
        for shape in self.config.block_shapes():
            after = grid.pooled(shape.stride)
            values += prod(grid.size) * shape.attention_width + prod(after.size) * shape.out_width
            grid = after
        return values * (HALF_BYTES_A_VALUE if half else FULL_BYTES_A_VALUE)

    def init_weights(self, temporal_init: TemporalInit) -> None:
        """Draw convolutions, positions and the class token as the published code does, whatever `temporal_init`."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 2 or ".rel_pos_" in name:
                nn.init.trunc_normal_(parameter, std=INIT_STD)

    def starts_at_zero(self, name: str, temporal_init: TemporalInit) -> bool:
        """See Backbone. Image models have no positions in time."""
        return temporal_init == "zero" and name.endswith(("rel_pos_t", "pos_embed_temporal"))

    def resized(self, name: str, tensor: Tensor, target: Tensor, resize: Resize, source: ModelConfig) -> Tensor:
        """See Backbone. A kernel of an image model is repeated over time, and divided by the number of slots."""
        if tensor.shape == target.shape:
            return tensor
        if ".rel_pos_" in name:
            return resize_table(tensor, len(target))
        if name == "pos_embed_temporal":
            return resize_time(tensor, target.shape[1])
        if name == "pos_embed_spatial":
            side = self.config.patch_grid[1]
            return resize_space(tensor, side, side)
        if tensor.ndim == 5 and target.shape[2] == 1:  # an image meets only the middle
            return tensor[:, :, middle(tensor.shape[2])]
        return tensor.expand_as(target) / target.shape[2] if tensor.ndim == 5 else tensor

    def _first_tokens(self, parts: Sequence[Tensor]) -> Tokens:
        """Add positions to the tokens of all clips [B, T, Y, X, D], and append the class tokens: [R, 1, D]."""
        dtype = parts[0].dtype
        if self.config.version == 1:
            parts = [part + self._positions(part) for part in parts]
        rows = [part.flatten(0, 3).to(torch.promote_types(part.dtype, torch.float32)) for part in parts]
        if self.cls_token is not None:
            class_11D = self.cls_token if self.pos_embed_class is None else self.cls_token + self.pos_embed_class
            rows.append(class_11D[0].expand(sum(map(len, parts)), -1))
        return Tokens.of(torch.cat(rows)[:, None], dtype)

    def _positions(self, part_BTYXD: Tensor) -> Tensor:
        """Return the absolute positions of version 1, [T, Y, X, D]."""
        slots, rows, columns = part_BTYXD.shape[1:4]
        space: Tensor = resize_space(self.pos_embed_spatial, rows, columns)[0].unflatten(0, (rows, columns))
        if self.pos_embed_temporal is None:
            return space[None]
        return space + resize_time(self.pos_embed_temporal, slots)[0, :, None, None]

    def _drop_path_scales(self, seeds_B: Tensor) -> Sequence[Tensor | None]:
        """Return the drop-path factors of each block's branches and clips, [2, B]; None for no scaling."""
        if not self.training or not self.config.drop_path_rate:
            return [None] * len(self.blocks)
        return drop_path_scales(seeds_B, len(self.blocks), BRANCHES, self.config.drop_path_rate).unbind()

    def _for_rows(self, scales_2B: Tensor, grids: Sequence[Grid]) -> tuple[Tensor, Tensor]:
        """Return the factors of attention and MLP for each row, [R]."""
        parts = zip(scales_2B.split([grid.num_clips for grid in grids], 1), grids, strict=True)
        rows = [part[..., None].expand(-1, -1, prod(grid.size)).flatten(1) for part, grid in parts]
        attention, mlp = torch.cat([*rows, scales_2B] if self.config.class_token else rows, 1)
        return attention, mlp

    def _exact(self, tokens: Tokens, residual: Residual, first: int, num_rows: int) -> Tensor:
        """Add the last residual to some rows of the tokens, [R, D]."""

        def rows(tensor: Tensor) -> Tensor:
            return tensor.narrow(0, first, num_rows)  # torch.export must know how many there are

        values_RD = rows(residual.values)[:, 0] + residual.bias
        if residual.scale is not None:
            values_RD = values_RD * rows(residual.scale)[:, None]
        return tokens.map(lambda part: rows(part)[:, 0]).exact + values_RD

    def _normed(self, tokens: Tokens, residual: Residual, grids: Sequence[Grid]) -> list[Tensor]:
        """Add the last residual, normalise, and return the tokens of each grid, [B, L, D]."""
        sizes = [grid.num_rows for grid in grids]
        normed_RD = self.norm(self._exact(tokens, residual, 0, sum(sizes)))
        parts = zip(normed_RD.split(sizes), grids, strict=True)
        return [part.unflatten(0, (grid.num_clips, -1)) for part, grid in parts]

    def _blocks(self) -> list[Block]:
        return [cast(Block, block) for block in self.blocks]

    def _grid(self, num_frames: int, height_px: int, width_px: int) -> Grid:
        """Return the tokens of a clip."""
        strides = self.config.frame_stride, *PATCH_STRIDE[1:]
        slots, rows, columns = (
            -(-side // by) for side, by in zip((num_frames, height_px, width_px), strides, strict=True)
        )
        return Grid((slots, rows, columns), 1)


class DistanceCache:
    """The distances of queries and keys of all grids of a forward pass, each computed once.

    Args:
        device: Where to compute them.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._known: dict[tuple[Size, Size], Distances] = {}

    def __call__(self, queries: Sequence[Grid], keys: Sequence[Grid]) -> tuple[Distances, ...]:
        """Return the distances for each pair of grids."""
        pairs = [(query.size, key.size) for query, key in zip(queries, keys, strict=True)]
        for pair in pairs:
            if pair not in self._known:
                self._known[pair] = distances(*pair, self._device)
        return tuple(self._known[pair] for pair in pairs)


class PatchEmbed(nn.Module):
    """A convolution over frames, rows and columns, whose patches overlap.

    Args:
        config: The configuration of the model.
    """

    def __init__(self, config: MViTConfig) -> None:
        super().__init__()
        kernel = (config.kernel_frames, *PATCH_KERNEL[1:])
        stride = (config.frame_stride, *PATCH_STRIDE[1:])
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.proj = nn.Conv3d(3, config.width, kernel, stride, padding)

    def forward(self, clips: PackedClips) -> list[Tensor]:
        """Embed the clips of each group, [B, T, Y, X, D]. Frames are padded with zeros after normalisation.

        Args:
            clips: Clips of any lengths, packed.
        """
        dtype = compute_dtype(self.proj.weight)
        frames_FCYX = clips.frames_FCYX
        if frames_FCYX.dtype == torch.uint8:
            frames_FCYX = (frames_FCYX.to(self.proj.weight.dtype) / 255 - clips.mean_C11) / clips.std_C11
        return [self._embed(frames_TBCYX) for frames_TBCYX in unpack(frames_FCYX.to(dtype), clips.groups)]

    def _embed(self, frames_TBCYX: Tensor) -> Tensor:
        weight, padding = self.proj.weight.to(frames_TBCYX.dtype), cast(Size, self.proj.padding)
        bias = None if self.proj.bias is None else self.proj.bias.to(frames_TBCYX.dtype)
        if len(frames_TBCYX) == 1:  # an image meets only the middle of the kernel
            weight, padding = weight[:, :, middle(weight.shape[2])], (0, *padding[1:])
        frames_BCTYX = frames_TBCYX.permute(1, 2, 0, 3, 4).contiguous(memory_format=torch.channels_last_3d)
        return F.conv3d(frames_BCTYX, weight, bias, self.proj.stride, padding).permute(0, 2, 3, 4, 1)
