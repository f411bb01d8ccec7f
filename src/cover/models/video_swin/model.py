"""Video Swin on packed frames of any clip lengths: tubelets, stages of shifted-window blocks, and the mean token.

An image stands for a clip of two equal frames. It has one slot of time, for which the patch kernel is summed over time;
this equals the two frames at half the cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isqrt, prod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.config.families import TemporalInit
from cover.models.backbone import Resize, TokenBackbone
from cover.models.config import ModelConfig
from cover.models.drop_path import drop_path_scales
from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.relative_bias import Size
from cover.models.kernels.residual import add_normalise
from cover.models.packing import Group, PackedClips, unpack
from cover.models.video_swin.block import BRANCHES, Block, PatchMerging, start
from cover.models.video_swin.config import TUBELET, VideoSwinConfig
from cover.models.video_swin.windows import NO_SHIFT, Grid, WindowCache, clipped

BIAS_TABLE = "relative_position_bias_table"
BIAS_STD = 0.02
"""Standard deviation of the initial bias tables."""
FULL_BYTES_A_VALUE, HALF_BYTES_A_VALUE = 74.0, 46.0
"""Activation memory of training, per token, block and width of its stage, without the scores of attention."""


class PatchEmbed(nn.Module):
    """A linear map of each tubelet, with the weights of a convolution, and a norm."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, width, TUBELET, stride=TUBELET)
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, clips: PackedClips) -> Tensor:
        """Embed the tubelets of all clips, [N, D]. Clips are padded to whole tubelets with zeros after normalisation.

        A clip of one frame is not padded: it stands for two equal frames.
        """
        weight_DCTYX = self.proj.weight
        dtype = compute_dtype(weight_DCTYX)
        frames_FCYX = clips.frames_FCYX
        if frames_FCYX.dtype == torch.uint8:
            frames_FCYX = (frames_FCYX.to(weight_DCTYX.dtype) / 255 - clips.mean_C11) / clips.std_C11
        tokens = []
        for frames_TBCYX in unpack(frames_FCYX.to(dtype), clips.groups):
            is_image = len(frames_TBCYX) == 1
            weight = weight_DCTYX.sum(2, keepdim=True) if is_image else weight_DCTYX
            tubelets_NP = _cut_tubelets(frames_TBCYX, weight.shape[2])
            tokens.append(F.linear(tubelets_NP, weight.flatten(1).to(dtype)))
        out: Tensor = self.norm(torch.cat(tokens) + cast(Tensor, self.proj.bias))
        return out


def _cut_tubelets(frames_TBCYX: Tensor, num_frames: int) -> Tensor:
    """Cut clips of equal length into tubelets of `num_frames` frames: [N, C · frames · rows · columns]."""
    _, rows, columns = TUBELET
    length, _, _, height, width = frames_TBCYX.shape
    padding = (0, -width % columns, 0, -height % rows, 0, 0, 0, 0, 0, -length % num_frames)
    if any(padding):
        frames_TBCYX = F.pad(frames_TBCYX, padding)
    # [T / frames, frames, B, C, Y / rows, rows, X / columns, columns]
    parts = frames_TBCYX.unflatten(4, (-1, columns)).unflatten(3, (-1, rows)).unflatten(0, (-1, num_frames))
    out: Tensor = parts.permute(2, 0, 4, 6, 3, 1, 5, 7).flatten(4).flatten(0, 3)
    return out


class Stage(nn.Module):
    """Blocks at one resolution, and the patch merging to the next, with the published parameter names."""

    def __init__(self, config: VideoSwinConfig, stage: int) -> None:
        super().__init__()
        width, num_heads, eps = config.stage_width(stage), config.num_heads[stage], config.layer_norm_eps
        self.blocks = nn.ModuleList(Block(width, num_heads, config.window, eps) for _ in range(config.depths[stage]))
        self.downsample = PatchMerging(width, eps) if stage + 1 < len(config.depths) else None


class VideoSwin(TokenBackbone):
    """Encodes packed clips of any lengths; an image is a clip of one frame.

    It computes what the published code does for frames of at least 224 px. Smaller frames can have fewer patches along
    a side than a window. There the published code reads wrong relative positions, and this class the right ones.

    Args:
        config: The configuration of the model.
    """

    config: VideoSwinConfig

    def __init__(self, config: VideoSwinConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config.width, config.layer_norm_eps)
        self.layers = nn.ModuleList(Stage(config, stage) for stage in range(len(config.depths)))
        self.norm = nn.LayerNorm(self.width, eps=config.layer_norm_eps)
        self._windows = WindowCache()

    @property
    def width(self) -> int:
        """D, the size of a token in the last stage."""
        return self.config.stage_width(len(self.config.depths) - 1)

    def forward(self, clips: PackedClips) -> Tensor:
        """Encode clips.

        Args:
            clips: Clips of any lengths, packed.

        Returns:
            The mean of the normalised tokens of each clip, [B, D], in packed order.
        """
        parts = self._normalised(clips)
        dtype = torch.promote_types(parts[0].dtype, torch.float32)
        means_BD = torch.cat([tokens_BLD.mean(1, dtype=dtype) for tokens_BLD in parts])
        return means_BD * self.norm.weight + self.norm.bias

    def tokens(self, clips: PackedClips) -> list[Tensor]:
        """See TokenBackbone."""
        return [tokens_BLD * self.norm.weight + self.norm.bias for tokens_BLD in self._normalised(clips)]

    def _normalised(self, clips: PackedClips) -> list[Tensor]:
        """Return the tokens of each group, [B, L, D], without the affine part of the final norm."""
        height_px, width_px = clips.frames_FCYX.shape[2:]
        groups, sides = _slots(clips.groups), _grid_size(1, height_px, width_px)[1:]
        scales = self._branch_scales(clips.seeds_B, groups)
        values_FND = self.patch_embed(clips).unflatten(0, (-1, prod(sides)))
        dtype = compute_dtype(values_FND)
        for stage in self._stages():
            grids = tuple(Grid((num_slots, *sides), num_clips) for num_slots, num_clips in groups)
            shifts = NO_SHIFT, self._half_window()
            windows = [self._windows(grids, self.config.window, shift, values_FND.device) for shift in shifts]
            tokens, residual = start(values_FND, dtype)
            for index, block in enumerate(stage.blocks):
                tokens, residual = block(tokens, residual, windows[index % 2], groups, next(scales))
            if stage.downsample is not None:
                values_FND = stage.downsample(tokens, residual, groups, sides)
                sides = merged(sides)
        _, normed_FND = add_normalise(tokens, residual, groups, self.norm.eps)
        parts = normed_FND.exact.split([num_slots * num_clips for num_slots, num_clips in groups])
        return [
            part.unflatten(0, (num_clips, -1)).flatten(1, 2) for part, (_, num_clips) in zip(parts, groups, strict=True)
        ]

    def num_tokens(self, num_frames: int, height_px: int, width_px: int) -> int:
        """See TokenBackbone. The stages but the last end with a patch merging."""
        num_slots, rows, columns = _grid_size(num_frames, height_px, width_px)
        for _ in self.config.depths[1:]:
            rows, columns = merged((rows, columns))
        return num_slots * rows * columns

    def units(self) -> Sequence[nn.Module]:
        """The blocks of all stages."""
        return [block for stage in self._stages() for block in stage.blocks]

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the patches, i + 1 for block i of all, and `num_layers` for the final norm.

        Patch merging belongs to the block before it.
        """
        place, *rest = parameter.split(".")
        if place != "layers":
            return 0 if place == "patch_embed" else self.num_layers
        stage, part, block = int(rest[0]), rest[1], rest[2]
        before = sum(self.config.depths[:stage])
        return before + (1 + int(block) if part == "blocks" else self.config.depths[stage])

    @property
    def num_layers(self) -> int:
        """The number of the layer after the last block."""
        return sum(self.config.depths) + 1

    def multiply_adds(self, num_frames: int, height_px: int, width_px: int) -> int:
        """See Backbone. A linear layer takes tokens · in · out, attention 2 · windows · length² · width.

        Norms, GELU and softmax are not counted; the padding of windows is.
        """
        size = _grid_size(num_frames, height_px, width_px)
        tubelet = 3 * prod(TUBELET[1:] if num_frames == 1 else TUBELET)
        total = prod(size) * tubelet * self.config.width
        for stage, depth in enumerate(self.config.depths):
            width, window = self.config.stage_width(stage), clipped(size, self.config.window)
            places = prod(-(-side // length) * length for side, length in zip(size, window, strict=True))
            attention = places * (4 * width**2 + 2 * prod(window) * width)
            total += depth * (attention + prod(size) * 8 * width**2)
            if stage + 1 < len(self.config.depths):
                size = size[0], *merged(size[1:])
                total += prod(size) * 8 * width**2
        return total

    def activation_bytes(self, num_frames: int, height_px: int, width_px: int, *, half: bool) -> float:
        """See Backbone. The estimate is proportional to tokens, blocks and width."""
        size, values = _grid_size(num_frames, height_px, width_px), 0
        for stage, depth in enumerate(self.config.depths):
            values += prod(size) * depth * self.config.stage_width(stage)
            size = size[0], *merged(size[1:])
        return values * (HALF_BYTES_A_VALUE if half else FULL_BYTES_A_VALUE)

    def init_weights(self, temporal_init: TemporalInit) -> None:
        """Draw the bias tables. No layer only mixes frames, so `temporal_init` changes nothing."""
        for name, parameter in self.named_parameters():
            if name.endswith(BIAS_TABLE):
                nn.init.trunc_normal_(parameter, std=BIAS_STD)

    def resized(self, name: str, tensor: Tensor, target: Tensor, resize: Resize, source: ModelConfig) -> Tensor:
        """See Backbone. A bias table may be for another window; that of an image model is repeated over time."""
        if tensor.shape == target.shape or not name.endswith(BIAS_TABLE):
            return tensor
        return resize_bias_table(tensor, self.config.window)

    def _stages(self) -> list[Stage]:
        return [cast(Stage, stage) for stage in self.layers]

    def _half_window(self) -> Size:
        slots, rows, columns = self.config.window
        return slots // 2, rows // 2, columns // 2

    def _branch_scales(
        self, seeds_B: Tensor, groups: tuple[Group, ...]
    ) -> Iterator[tuple[Tensor | None, Tensor | None]]:
        """Yield the drop-path factors of each block's attention and MLP, each [F], or None for no scaling."""
        depth, rate = sum(self.config.depths), self.config.drop_path_rate
        if not self.training or not rate:
            return iter([(None, None)] * depth)
        parts = drop_path_scales(seeds_B, depth, BRANCHES, rate).split([num_clips for _, num_clips in groups], dim=2)
        rows = [part[..., None].expand(-1, -1, -1, t).flatten(2) for part, (t, _) in zip(parts, groups, strict=True)]
        return iter([(attention, mlp) for attention, mlp in torch.cat(rows, dim=2)])


def _grid_size(num_frames: int, height_px: int, width_px: int) -> Size:
    frames, rows, columns = TUBELET
    return -(-num_frames // frames), -(-height_px // rows), -(-width_px // columns)


def _slots(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    """Return the groups with slots of time for frames."""
    return tuple(Group(_grid_size(num_frames, 1, 1)[0], num_clips) for num_frames, num_clips in groups)


def merged(sides: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns after patch merging."""
    rows, columns = sides
    return (rows + 1) // 2, (columns + 1) // 2


def resize_bias_table(table: Tensor, window: Size) -> Tensor:
    """Resize a bias table to another window: bicubic in space, linear in time.

    Args:
        table: [(2 · slots - 1) · (2 · side - 1)², H], for any window with square frames.
        window: The other window.
    """
    slots, rows, columns = (2 * length - 1 for length in window)
    old_slots, old_side = bias_axes(len(table), window)
    space = table.float().T.unflatten(1, (old_slots, old_side, old_side))
    if (old_side, old_side) != (rows, columns):
        space = F.interpolate(space, size=(rows, columns), mode="bicubic", align_corners=True)
    time = space.flatten(2).transpose(1, 2)
    if old_slots != slots:
        time = F.interpolate(time, size=slots, mode="linear", align_corners=True)
    out: Tensor = time.permute(2, 1, 0).flatten(0, 1)
    return out


def bias_axes(num_rows: int, window: Size) -> tuple[int, int]:
    """Return how many distances in time and along one side of a frame a bias table has.

    The number of its rows does not always tell. Then they are those of `window` if possible, otherwise the side is as
    long as possible.

    Args:
        num_rows: Its rows.
        window: The window that the table is probably for, at least in part.
    """
    slots, side = 2 * window[0] - 1, 2 * window[1] - 1
    if num_rows % slots == 0 and isqrt(num_rows // slots) ** 2 == num_rows // slots:
        return slots, isqrt(num_rows // slots)
    if num_rows % side**2:
        side = max(other for other in range(1, isqrt(num_rows) + 1, 2) if num_rows % other**2 == 0)
    return num_rows // side**2, side
