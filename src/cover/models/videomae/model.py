"""VideoMAE on packed clips of any lengths: tubelets, blocks with joint attention, and the mean token of each clip.

Batches arrive frame-major, but tokens are packed clip by clip. A group of B clips with T' tubelets in time has B · T'
consecutive rows of N tokens each, so the tokens of a clip are one sequence without a copy:

    k400 [T=16, B=2] ── 2 · 8 rows ─┐
    imagenet [T=1, B=4] ── 4 rows ──┴─ tokens [20, N, D]

Linear layers and norms run once over all rows, attention once per distinct number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.models.backbone import Backbone
from cover.models.config import ModelConfig
from cover.models.drop_path import drop_path_scales
from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.folding import fold
from cover.models.kernels.products import Input, Weight, linear
from cover.models.kernels.qkv import qkv_linear
from cover.models.kernels.residual import Residual, Tokens, add_normalise
from cover.models.layers import MIDDLE_GREY, Mlp, for_uint8
from cover.models.linear import Linear, cached_weight, in_dtype, prepared
from cover.models.packing import Group, PackedClips, unpack
from cover.models.videomae.config import VideoMAEConfig, check_length

BRANCHES = 2
"""Residual branches of a block: attention, MLP."""
HALF_BYTES_A_VALUE, FULL_BYTES_A_VALUE = 41, 82
"""Bytes that the backward pass keeps per token, block and feature, without recomputation or torch.compile. In float32,
autograd saves 68, to which a fifth is added; bf16 takes half as much. Neither is measured on a GPU."""


class VideoMAE(Backbone):
    """A VideoMAE. It accepts images, and clips of any resolution with a whole number of tubelets.

    Positions are those of the published code: sines of a token's number in the clip. They are no weights. For other
    clip lengths and resolutions than those of the weights they are computed anew, as when the published code
    fine-tunes, and not interpolated.

    Args:
        config: The configuration of the model.
    """

    config: VideoMAEConfig

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = TubeletEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.fc_norm = nn.LayerNorm(config.width, eps=config.fc_norm_eps) if config.fc_norm else nn.Identity()

    @property
    def width(self) -> int:
        """D, the width of a token."""
        return self.config.width

    def forward(self, clips: PackedClips) -> Tensor:
        """Encode clips.

        Args:
            clips: Clips of any lengths, packed.

        Returns:
            The normalised mean token of each clip, [B, D], in packed order.

        Raises:
            CoverError: A clip has a number of frames that the tubelets do not divide.
        """
        groups = self._groups(clips.groups)
        values_FND, bias = self.patch_embed(clips)
        tokens, residual = self._positions(groups, values_FND), Residual(values_FND, bias, None, "all")
        for block, scales in zip(self.blocks, self._branch_scales(clips.seeds_B, groups), strict=True):
            tokens, residual = block(tokens, residual, groups, scales)
        out: Tensor = self.fc_norm(mean_tokens(tokens, residual, groups))
        return out

    def units(self) -> Sequence[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the embedding, i + 1 for block i, and `num_layers` for the final norm."""
        place, number, *_ = parameter.split(".")
        return 0 if place == "patch_embed" else 1 + int(number) if place == "blocks" else self.num_layers

    @property
    def num_layers(self) -> int:
        """The number of the layer after the last block."""
        return self.config.depth + 1

    def multiply_adds(self, num_frames: int, height_px: int, width_px: int) -> int:
        """See Backbone. Linear layers and attention are counted; norms, GELU and softmax are not."""
        config, width = self.config, self.config.width
        num_rows, num_patches = self._grid(num_frames, height_px, width_px)
        num_tokens = num_rows * num_patches
        frames_of_token = 1 if num_frames == 1 else config.tubelet_size
        embedding = 3 * frames_of_token * config.patch_size_px**2 * width
        block = 4 * width**2 + 2 * width * config.mlp_width + 2 * num_tokens * width
        return num_tokens * (embedding + config.depth * block)

    def activation_bytes(self, num_frames: int, height_px: int, width_px: int, *, half: bool) -> float:
        """See Backbone. The estimate is proportional to tokens, blocks and width."""
        num_rows, num_patches = self._grid(num_frames, height_px, width_px)
        values = num_rows * num_patches * self.config.depth * self.config.width
        return values * (HALF_BYTES_A_VALUE if half else FULL_BYTES_A_VALUE)

    def normalise_as(self, config: ModelConfig) -> None:
        """See Backbone. The final norm has an epsilon of its own."""
        super().normalise_as(config)
        assert isinstance(config, VideoMAEConfig)
        self.config = replace(self.config, fc_norm_eps=config.fc_norm_eps)
        if isinstance(self.fc_norm, nn.LayerNorm):
            self.fc_norm.eps = config.fc_norm_eps

    def _grid(self, num_frames: int, height_px: int, width_px: int) -> tuple[int, int]:
        """Return the number of tubelets of a clip in time, and the number of patches of a frame."""
        patch_px = self.config.patch_size_px
        return -(-num_frames // self.config.tubelet_size), (height_px // patch_px) * (width_px // patch_px)

    def _groups(self, groups: tuple[Group, ...]) -> tuple[Group, ...]:
        """Return the groups with tubelets for frames. An image and a video of one tubelet are of equal length."""
        merged: list[Group] = []
        for num_frames, num_clips in groups:
            check_length(num_frames, self.config.tubelet_size)
            num_rows = -(-num_frames // self.config.tubelet_size)
            if merged and merged[-1].num_frames == num_rows:
                num_clips += merged.pop().num_clips
            merged.append(Group(num_rows, num_clips))
        return tuple(merged)

    def _positions(self, groups: tuple[Group, ...], like_FND: Tensor) -> Tokens:
        """Return the position of every token, for blocks that compute in the type of `like_FND`."""
        num_patches, weight = like_FND.shape[1], self.patch_embed.proj.weight
        longest = max(num_rows for num_rows, _ in groups)
        table_LD = sine_positions(longest * num_patches, self.width, weight.device).to(weight.dtype)
        rows = Tokens.of(table_LD.unflatten(0, (longest, num_patches)), like_FND.dtype)
        # The rows of a shorter clip are the first of them.
        return rows.map(lambda part: torch.cat([part[:t].expand(b, -1, -1, -1).flatten(0, 1) for t, b in groups]))

    def _branch_scales(self, seeds_B: Tensor, groups: tuple[Group, ...]) -> list[tuple[Tensor | None, Tensor | None]]:
        """Return the drop-path factors of each block's attention and MLP, each [F], or None for no scaling."""
        depth, rate = self.config.depth, self.config.drop_path_rate
        if not self.training or rate == 0:
            return [(None, None)] * depth
        scales_LRB = drop_path_scales(seeds_B, depth, BRANCHES, rate)
        parts = scales_LRB.split([num_clips for _, num_clips in groups], dim=2)
        rows = [part[..., None].expand(-1, -1, -1, t).flatten(2) for part, (t, _) in zip(parts, groups, strict=True)]
        return [(attention, mlp) for attention, mlp in torch.cat(rows, dim=2)]


class TubeletEmbed(nn.Module):
    """A linear map of each tubelet: a patch of some consecutive frames.

    Its weights have the shape of a convolution, as published. An image stands for a tubelet of equal frames, so its
    patches go through the sum of the kernel over time, at a part of the cost.

    Args:
        config: The configuration of the model.
    """

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        kernel = (config.tubelet_size, config.patch_size_px, config.patch_size_px)
        self.proj = nn.Conv3d(3, config.width, kernel, stride=kernel)

    def forward(self, clips: PackedClips) -> tuple[Tensor, Tensor]:
        """Embed tubelets. uint8 frames are normalised by changed weights and bias (`for_uint8`).

        Args:
            clips: Clips whose frames the tubelets divide, and images.

        Returns:
            The tokens without bias [F, N, D], clip by clip, and the bias [D].
        """
        weight_DCTYX, bias_D = self.proj.weight, cast(Tensor, self.proj.bias)
        dtype, tubelet, patch_px = compute_dtype(weight_DCTYX), weight_DCTYX.shape[2], weight_DCTYX.shape[3]
        is_uint8 = clips.frames_FCYX.dtype == torch.uint8
        weight_DCYX = weight_DCTYX.flatten(2, 3)
        if is_uint8:
            weight_DCYX, bias_D = for_uint8(weight_DCYX, bias_D, clips.mean_C11, clips.std_C11)
        kernel_DCTP = weight_DCYX.unflatten(2, (tubelet, patch_px)).flatten(3)
        parts = []
        for group in self._of_one_kernel(clips):
            span = 1 if len(group[0]) == 1 else tubelet
            cut_FNP = torch.cat([cut_tubelets(frames_TBCYX, span, patch_px) for frames_TBCYX in group]).to(dtype)
            kernel = kernel_DCTP if span > 1 else kernel_DCTP.sum(2)
            parts.append(F.linear(cut_FNP - MIDDLE_GREY if is_uint8 else cut_FNP, kernel.flatten(1).to(dtype)))
        return torch.cat(parts), bias_D

    def _of_one_kernel(self, clips: PackedClips) -> list[list[Tensor]]:
        """Return the frames [T,B,C,Y,X] of neighbouring groups together if they share a kernel."""
        together: list[list[Tensor]] = []
        for frames_TBCYX in unpack(clips.frames_FCYX, clips.groups):
            if together and len(frames_TBCYX) > 1:  # the longest come first, images last
                together[-1].append(frames_TBCYX)
            else:
                together.append([frames_TBCYX])
        return together


def cut_tubelets(frames_TBCYX: Tensor, tubelet: int, patch_px: int) -> Tensor:
    """Cut clips into tubelets, clip by clip. Pixels left over on the right and at the bottom are dropped.

    Args:
        frames_TBCYX: Frames of any type.
        tubelet: Frames of a tubelet, which divide T.
        patch_px: Side of a patch.

    Returns:
        [B · T / tubelet, N, C · tubelet · patch²].
    """
    rows, columns = (side // patch_px for side in frames_TBCYX.shape[3:])
    whole = frames_TBCYX[..., : rows * patch_px, : columns * patch_px]
    cut = whole.unflatten(4, (columns, patch_px)).unflatten(3, (rows, patch_px)).unflatten(0, (-1, tubelet))
    out: Tensor = cut.permute(2, 0, 4, 6, 3, 1, 5, 7).flatten(4).flatten(2, 3).flatten(0, 1)
    return out


class Block(nn.Module):
    """Joint attention and MLP, with the published parameter names.

    A block first adds the residual of the block before it, and does not add that of its own MLP. So every residual is
    added and the sum normalised in one step (kernels/residual.py).

    Args:
        config: The configuration of the model.
    """

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.attn = Attention(config.width, config.num_heads)
        self.norm2 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.mlp = Mlp(config.width, config.mlp_width)

    def forward(
        self,
        tokens: Tokens,
        residual: Residual,
        groups: tuple[Group, ...],
        scales: tuple[Tensor | None, Tensor | None],
    ) -> tuple[Tokens, Residual]:
        """Run the block.

        Args:
            tokens: The tokens [F, N, D], without `residual`.
            residual: The output of the block before this one.
            groups: The number of tubelets in time, and the number of clips, of each group.
            scales: The drop-path factors of attention and MLP.

        Returns:
            The tokens, and the residual that the next block adds to them.
        """
        tokens, normed_FND = add_normalise(tokens, residual, groups, self.norm1.eps, float8=self.attn.qkv.float8)
        values_FND = self.attn(normed_FND, self.norm1, groups)
        residual = Residual(values_FND, self.attn.proj.bias, scales[0], "all")
        tokens, normed_FND = add_normalise(tokens, residual, groups, self.norm2.eps, float8=self.mlp.fc1.float8)
        # A copy of the bias, because FSDP frees the parameters of a block before the next block adds them.
        return tokens, Residual(self.mlp(normed_FND, self.norm2), self.mlp.fc2.bias.clone(), scales[1], "all")


class Attention(nn.Module):
    """Multi-head attention over all tokens of each clip. Keys have no bias, which softmax would cancel.

    Args:
        width: The size of a token, D.
        num_heads: H.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = Linear(width, width)

    def forward(self, normed_FND: Input, norm: nn.LayerNorm, groups: tuple[Group, ...]) -> Tensor:
        """Return the values of the residual, [F, N, D], without the bias of the output projection.

        Args:
            normed_FND: Normalised tokens, as products read them.
            norm: The norm that gives the affine part.
            groups: The number of tubelets in time, and the number of clips, of each group.
        """
        dtype = compute_dtype(normed_FND.exact)
        weight, bias = cached_weight(self.qkv, dtype, lambda: self._folded(norm, dtype))
        num_rows = [t * b for t, b in groups]
        qkv = [part.split(num_rows) for part in qkv_linear(normed_FND, weight, bias, self.num_heads)]
        mixed = [attend(*parts, num_clips=b) for parts, (_, b) in zip(zip(*qkv, strict=True), groups, strict=True)]
        mixed_FND, weight = torch.cat(mixed), in_dtype(self.proj, dtype)
        return linear(Input.of(mixed_FND, weight.forward), weight)

    def _folded(self, norm: nn.LayerNorm, dtype: torch.dtype) -> tuple[Weight, Tensor]:
        """Return weight and bias of `qkv` with the affine part of the norm multiplied in."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        weight, bias = fold(norm, self.qkv, dtype, bias)
        return prepared(weight, self.qkv, dtype), bias


def attend(query_FHNE: Tensor, key_FHNE: Tensor, value_FHNE: Tensor, *, num_clips: int) -> Tensor:
    """Compute softmax attention over all tokens of each clip.

    Args:
        query_FHNE: The rows of clips of equal length, clip by clip.
        key_FHNE: The same.
        value_FHNE: The same.
        num_clips: The number of clips.

    Returns:
        [F, N, D].
    """
    num_tokens = query_FHNE.shape[2]
    clips = [
        part.unflatten(0, (num_clips, -1)).transpose(1, 2).flatten(2, 3)  # [B, H, T'·N, E], without a copy
        for part in (query_FHNE, key_FHNE, value_FHNE)
    ]
    mixed_BHLE = F.scaled_dot_product_attention(*clips)
    mixed_BLD = mixed_BHLE.transpose(1, 2).flatten(2)
    out: Tensor = mixed_BLD.unflatten(1, (-1, num_tokens)).flatten(0, 1)
    return out


def mean_tokens(tokens: Tokens, residual: Residual, groups: tuple[Group, ...]) -> Tensor:
    """Add a residual, and return the mean over the tokens of each clip.

    The mean is taken of each part alone, so the sums of all tokens are never in memory.

    Args:
        tokens: [F, N, D].
        residual: What to add to them.
        groups: The number of tubelets in time, and the number of clips, of each group.

    Returns:
        [B, D], in float32 or the type of the tokens if that is wider.
    """
    dtype = torch.promote_types(tokens.values.dtype, torch.float32)
    added_FD = residual.values.mean(1, dtype=dtype) + residual.bias
    if residual.scale is not None:
        added_FD = added_FD * residual.scale[:, None]
    total_FD = tokens.values.mean(1, dtype=dtype) + added_FD
    if tokens.rest is not None:
        total_FD = total_FD + tokens.rest.mean(1, dtype=dtype)
    sizes = [t * b for t, b in groups]
    parts = [part.unflatten(0, (b, t)).mean(1) for part, (t, b) in zip(total_FD.split(sizes), groups, strict=True)]
    return torch.cat(parts)


def sine_positions(num_tokens: int, width: int, device: torch.device) -> Tensor:
    """Compute the sines that tell a token its number in the clip (Vaswani et al. 2017), as the published code does.

    They are computed on the device in every pass, in float64, so a CUDA graph can record it.

    Args:
        num_tokens: The number of tokens, L.
        width: D.
        device: Where to compute.

    Returns:
        float32 [L, D]: sin(l / 10000^(2i/D)) at 2i, and the cosine at 2i + 1.
    """
    compute_on = torch.device("cpu") if device.type == "mps" else device  # Apple's GPUs have no float64
    place_L1 = torch.arange(num_tokens, device=compute_on, dtype=torch.float64)[:, None]
    even = torch.arange(0, width, 2, device=compute_on, dtype=torch.float64)
    angle_LI = place_L1 / torch.pow(10000.0, even / width)
    table_LD: Tensor = torch.stack([angle_LI.sin(), angle_LI.cos()], dim=-1).flatten(1).float()
    return table_LD[:, :width].to(device)
