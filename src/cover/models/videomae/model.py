"""VideoMAE on packed clips of any lengths: tubelets, blocks with joint attention, and the mean token of each clip.

Linear layers and norms run once over all tokens, attention once per distinct number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cover.models.backbone import Resize, TokenBackbone
from cover.models.config import ModelConfig, check_tubelets
from cover.models.kernels.folding import fold
from cover.models.kernels.products import Weight
from cover.models.kernels.residual import Residual, Tokens, normalised
from cover.models.layers import APPROXIMATE, Mlp, follow_weights, normalise_tokens, pre_norm
from cover.models.linear import cached_weight, prepared
from cover.models.packing import Group, PackedClips
from cover.models.videomae.config import VideoMAEConfig
from cover.models.vit.block import FULL_BYTES_A_VALUE, HALF_BYTES_A_VALUE, Attention, Block, branch_scales
from cover.models.vit.tubelets import TubeletEmbed, clip_tokens, mean_tokens, tubelet_groups


class VideoMAE(TokenBackbone):
    """A VideoMAE. It accepts images, and clips of any resolution with a whole number of tubelets.

    Positions are those of the published code: sines of a token's number in the clip. They are no weights. For other
    clip lengths and resolutions than those of the weights they are computed anew, as when the published code
    fine-tunes, and not interpolated.

    Args:
        config: The configuration of the model.
    """

    config: VideoMAEConfig
    norm_pre: nn.LayerNorm | None

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        self.config = config
        width, eps, approximate = config.width, config.layer_norm_eps, APPROXIMATE[config.activation]
        self.patch_embed = TubeletEmbed(config.tubelet_size, config.patch_size_px, width)
        self.register_module("norm_pre", pre_norm(config))
        self.blocks = nn.ModuleList(
            Block(QVAttention(width, config.num_heads), Mlp(width, config.mlp_width, approximate), eps)
            for _ in range(config.depth)
        )
        self.fc_norm = nn.LayerNorm(width, eps=config.fc_norm_eps) if config.fc_norm else nn.Identity()

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
        out: Tensor = self.fc_norm(mean_tokens(*self._encode(clips)))
        return out

    def tokens(self, clips: PackedClips) -> list[Tensor]:
        """See TokenBackbone. The norm of the mean token normalises every token."""
        tokens, residual, groups = self._encode(clips)
        return clip_tokens(normalised(tokens, residual, groups, self.fc_norm), groups)

    def num_tokens(self, num_frames: int, height_px: int, width_px: int) -> int:
        """See TokenBackbone."""
        num_rows, num_patches = self._grid(num_frames, height_px, width_px)
        return num_rows * num_patches

    def _encode(self, clips: PackedClips) -> tuple[Tokens, Residual, tuple[Group, ...]]:
        """Return the tokens, the residual of the last block, and the groups with tubelets for frames."""
        groups = self._groups(clips.groups)
        values_FND, bias = self.patch_embed(clips)
        tokens, residual = self._positions(groups, values_FND), Residual(values_FND, bias, None, "all")
        if self.norm_pre is not None:
            tokens, residual = normalise_tokens(self.norm_pre, tokens, residual, groups)
        rate = self.config.drop_path_rate if self.training else 0
        scales_of_blocks = branch_scales(clips.seeds_B, groups, self.config.depth, rate)
        for block, scales in zip(self.blocks, scales_of_blocks, strict=True):
            tokens, residual = block(tokens, residual, groups, scales)
        return tokens, residual, groups

    def units(self) -> Sequence[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the embedding and the norm after it, i + 1 for block i, and `num_layers` for the final norm."""
        place, number, *_ = parameter.split(".")
        return 0 if place in ("patch_embed", "norm_pre") else 1 + int(number) if place == "blocks" else self.num_layers

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
        follow_weights(self, self.config)
        if isinstance(self.fc_norm, nn.LayerNorm):
            self.fc_norm.eps = self.config.fc_norm_eps

    def resized(self, name: str, tensor: Tensor, target: Tensor, resize: Resize, source: ModelConfig) -> Tensor:
        """See Backbone. The patch kernel of an image model is repeated over the frames of a tubelet, and divided."""
        if tensor.shape == target.shape:
            return tensor
        return tensor.expand(target.shape) / target.shape[2]

    def _grid(self, num_frames: int, height_px: int, width_px: int) -> tuple[int, int]:
        """Return the number of tubelets of a clip in time, and the number of patches of a frame."""
        patch_px = self.config.patch_size_px
        return -(-num_frames // self.config.tubelet_size), (height_px // patch_px) * (width_px // patch_px)

    def _groups(self, groups: tuple[Group, ...]) -> tuple[Group, ...]:
        """Return the groups with tubelets for frames."""
        for num_frames, _ in groups:
            check_tubelets(num_frames, self.config.tubelet_size, "VideoMAE")
        return tubelet_groups(groups, self.config.tubelet_size)

    def _positions(self, groups: tuple[Group, ...], like_FND: Tensor) -> Tokens:
        """Return the position of every token, for blocks that compute in the type of `like_FND`."""
        num_patches, weight = like_FND.shape[1], self.patch_embed.proj.weight
        longest = max(num_rows for num_rows, _ in groups)
        table_LD = sine_positions(longest * num_patches, self.width, weight.device).to(weight.dtype)
        rows = Tokens.of(table_LD.unflatten(0, (longest, num_patches)), like_FND.dtype)
        # The rows of a shorter clip are the first of them.
        return rows.map(lambda part: torch.cat([part[:t].expand(b, -1, -1, -1).flatten(0, 1) for t, b in groups]))


class QVAttention(Attention):
    """Attention with the published parameter names. Keys have no bias, which softmax would cancel.

    Args:
        width: The size of a token, D.
        num_heads: H.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(width, num_heads, qkv_bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))

    def qkv_after(self, norm: nn.LayerNorm, dtype: torch.dtype) -> tuple[Weight, Tensor]:
        """See Attention."""

        def make() -> tuple[Weight, Tensor]:
            bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
            weight, bias = fold(norm, self.qkv, dtype, bias)
            return prepared(weight, self.qkv, dtype), bias

        return cached_weight(self.qkv, dtype, make)


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
