"""The four ViViTs of Arnab et al. (2021) on packed clips of any lengths.

    joint (1)                  one transformer over all tokens of a clip, with a class token
    factorised_encoder (2)     a spatial transformer over each row of tubelets, with a class token; then a temporal
                               transformer over the class tokens of a clip, with a class token of its own
    factorised_attention (3)   blocks with attention over time, then over space; the mean token
    factorised_heads (4)       half of each block's heads attends over time, the others over space; the mean token

Spatial layers treat all rows of a batch alike, no matter which clips they belong to. Temporal layers run once per
distinct number of rows. Linear layers and norms run once over all tokens.

A class token makes a sequence one token longer than its rows of patches. So these sequences are packed token by token,
[F, 1, D] with F tokens in all, and a group of B sequences of L tokens has B · L rows (models/vit/block.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.config.families import TemporalInit
from cover.models.backbone import Resize, TokenBackbone
from cover.models.config import ModelConfig, check_tubelets
from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.residual import Residual, Tokens, add_normalise, normalised
from cover.models.layers import APPROXIMATE, Mlp, follow_weights, normalise_tokens, pre_norm
from cover.models.packing import Group, PackedClips
from cover.models.vit.block import (
    BRANCHES,
    FULL_BYTES_A_VALUE,
    HALF_BYTES_A_VALUE,
    Attention,
    Block,
    branch_scales,
)
from cover.models.vit.tubelets import TubeletEmbed, clip_tokens, tubelet_groups
from cover.models.vivit.config import ViViTConfig

EMBEDDINGS = {"patch_embed", "norm_pre", "cls_token", "pos_embed"}
TEMPORAL_EMBEDDINGS = {"temporal_cls_token", "temporal_pos_embed"}
TOKEN_STD = 0.02
"""Standard deviation of the initial class tokens and positions."""


class ViViT(TokenBackbone):
    """A ViViT. It accepts images, and clips of any resolution with a whole number of tubelets.

    Positions are resized to other grids (bicubic) and lengths (linear). An image is a tubelet of equal frames at the
    first place in time.

    Args:
        config: The configuration of the model.
    """

    config: ViViTConfig
    norm_pre: nn.LayerNorm | None

    def __init__(self, config: ViViTConfig) -> None:
        super().__init__()
        self.config = config
        width, (rows, side) = config.width, config.grid
        self.encodes_rows = config.attention == "factorised_encoder"
        num_places = side**2 if self.encodes_rows else rows * side**2
        self.patch_embed = TubeletEmbed(config.tubelet_size, config.patch_size_px, width)
        self.register_module("norm_pre", pre_norm(config))
        if config.has_class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.has_class_token + num_places, width))
        self.blocks = nn.ModuleList(create_block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        if self.encodes_rows:
            self.temporal_cls_token = nn.Parameter(torch.zeros(1, 1, width))
            self.temporal_pos_embed = nn.Parameter(torch.zeros(1, 1 + rows, width))
            self.temporal_blocks = nn.ModuleList(create_block(config) for _ in range(config.temporal_depth))
            self.temporal_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    @property
    def width(self) -> int:
        """D, the width of a token."""
        return self.config.width

    def forward(self, clips: PackedClips) -> Tensor:
        """Encode clips.

        Args:
            clips: Clips of any lengths, packed.

        Returns:
            The class token or the mean token of each clip after the last norm, [B, D], in packed order.

        Raises:
            CoverError: A clip has a number of frames that the tubelets do not divide.
        """
        tokens, residual, groups = self._encode(clips)
        norm = self._last_norm
        if self.config.has_class_token:
            return class_tokens(tokens, residual, groups, norm)
        normed_FND = add_normalise(tokens, residual, groups, norm.eps)[1].exact
        dtype = torch.promote_types(normed_FND.dtype, torch.float32)
        mean_BD = torch.cat([part.mean(1, dtype=dtype) for part in clip_tokens(normed_FND, groups)])
        return mean_BD * norm.weight + norm.bias

    def tokens(self, clips: PackedClips) -> list[Tensor]:
        """See TokenBackbone. Those of a factorised encoder are one for each row of tubelets."""
        tokens, residual, groups = self._encode(clips)
        parts = clip_tokens(normalised(tokens, residual, groups, self._last_norm), groups)
        return [part[:, self.config.has_class_token :] for part in parts]

    def num_tokens(self, num_frames: int, height_px: int, width_px: int) -> int:
        """See TokenBackbone."""
        num_rows, num_patches = self._sizes(num_frames, height_px, width_px)
        return num_rows if self.encodes_rows else num_rows * num_patches

    @property
    def _last_norm(self) -> nn.LayerNorm:
        return self.temporal_norm if self.encodes_rows else self.norm

    def _encode(self, clips: PackedClips) -> tuple[Tokens, Residual, tuple[Group, ...]]:
        """Return the tokens, the residual of the last block, and the rows and clips of each group of sequences."""
        for num_frames, _ in clips.groups:
            check_tubelets(num_frames, self.config.tubelet_size, "ViViT")
        groups = tubelet_groups(clips.groups, self.config.tubelet_size)
        sides = tuple(side // self.config.patch_size_px for side in clips.frames_FCYX.shape[2:])
        if self.encodes_rows:
            row_FD, bias = self._encode_rows(clips, groups, sides), torch.zeros_like(self.norm.bias)
            places = {rows: resize_time(self.temporal_pos_embed, rows) for rows, _ in groups}
            start = with_class_token(row_FD[:, None], bias, groups, self.temporal_cls_token, places)
            return run(self.temporal_blocks, *start, self._temporal_scales(clips.seeds_B, start[2]))
        values_FND, bias = self.patch_embed(clips)
        places = {rows: resize_positions(self.pos_embed, self.config.grid, (rows, *sides)) for rows, _ in groups}
        if self.config.has_class_token:
            start = with_class_token(values_FND, bias, groups, self.cls_token, places)
        else:
            parts = [places[t][0].unflatten(0, (t, -1)).expand(b, -1, -1, -1).flatten(0, 1) for t, b in groups]
            tokens = Tokens.of(torch.cat(parts), values_FND.dtype)
            start = tokens, Residual(values_FND, bias, None, "all"), groups
        return self._run(*start, self._scales(clips.seeds_B, start[2]))

    def _encode_rows(self, clips: PackedClips, groups: tuple[Group, ...], sides: tuple[int, ...]) -> Tensor:
        """Return the class token of each row of tubelets after the spatial transformer, [F, D]."""
        values_FND, bias = self.patch_embed(clips)
        num_rows, num_patches, _ = values_FND.shape
        places = {1: resize_positions(self.pos_embed, (1, self.config.grid[1]), (1, *sides))}
        one_row = (Group(1, num_rows),)
        tokens, residual, _ = with_class_token(values_FND, bias, one_row, self.cls_token, places)
        # Every row is a sequence, so its tokens need not be packed token by token.
        tokens = tokens.map(lambda part: part.unflatten(0, (num_rows, -1)).squeeze(2))
        residual = residual._replace(values=residual.values.unflatten(0, (num_rows, -1)).squeeze(2))
        tokens, residual, _ = self._run(tokens, residual, one_row, self._scales(clips.seeds_B, groups))
        return class_tokens(*flattened(tokens, residual), (Group(1 + num_patches, num_rows),), self.norm)

    def _run(
        self, tokens: Tokens, residual: Residual, groups: tuple[Group, ...], scales: list[tuple[Tensor | None, ...]]
    ) -> tuple[Tokens, Residual, tuple[Group, ...]]:
        """Run the (spatial) blocks, after the norm before them if there is one."""
        if self.norm_pre is not None:
            tokens, residual = normalise_tokens(self.norm_pre, tokens, residual, groups)
        return run(self.blocks, tokens, residual, groups, scales)

    def _scales(self, seeds_B: Tensor, groups: tuple[Group, ...]) -> list[tuple[Tensor | None, ...]]:
        rate = self.config.drop_path_rate if self.training else 0
        return branch_scales(seeds_B, groups, self.config.depth, rate, self._branches)

    def _temporal_scales(self, seeds_B: Tensor, groups: tuple[Group, ...]) -> list[tuple[Tensor | None, ...]]:
        """Return the factors of the temporal transformer, where the rate rises from 0 again, as published."""
        rate = self.config.drop_path_rate if self.training else 0
        first = self.config.depth * BRANCHES
        return branch_scales(seeds_B, groups, self.config.temporal_depth, rate, first=first)

    @property
    def _branches(self) -> int:
        return BRANCHES + (self.config.attention == "factorised_attention")

    def units(self) -> Sequence[nn.Module]:
        """The blocks, and those of the temporal transformer."""
        return [*self.blocks, *(self.temporal_blocks if self.encodes_rows else [])]

    def layer_of(self, parameter: str) -> int:
        """Return 0 for the embeddings, then the number of the block, and `num_layers` for the last norm.

        The norm of the spatial transformer is of its last block, the embeddings of the temporal one of its first.
        """
        place, number, *_ = *parameter.split("."), ""
        depth = self.config.depth
        if place in EMBEDDINGS:
            return 0
        if place == "blocks":
            return 1 + int(number)
        if place in TEMPORAL_EMBEDDINGS:
            return depth + 1
        if place == "temporal_blocks":
            return depth + 1 + int(number)
        return depth if self.encodes_rows and place == "norm" else self.num_layers

    @property
    def num_layers(self) -> int:
        """The number of the layer after the last block."""
        return len(self.units()) + 1

    def multiply_adds(self, num_frames: int, height_px: int, width_px: int) -> int:
        """See Backbone. Linear layers and attention are counted; norms, GELU and softmax are not."""
        config, width = self.config, self.config.width
        num_rows, num_patches = self._sizes(num_frames, height_px, width_px)
        patches = num_rows * num_patches
        frames_of_token = 1 if num_frames == 1 else config.tubelet_size
        embedding = patches * 3 * frames_of_token * config.patch_size_px**2 * width

        def block(num_tokens: int, length: float) -> int:
            """`num_tokens`, each of which attends to `length` others."""
            return int(num_tokens * (4 * width**2 + 2 * width * config.mlp_width + 2 * length * width))

        if config.attention == "joint":
            return embedding + config.depth * block(1 + patches, 1 + patches)
        if config.attention == "factorised_encoder":
            spatial = config.depth * block(num_rows * (1 + num_patches), 1 + num_patches)
            return embedding + spatial + config.temporal_depth * block(1 + num_rows, 1 + num_rows)
        if config.attention == "factorised_heads":
            return embedding + config.depth * block(patches, (num_rows + num_patches) / 2)
        temporal = patches * (4 * width**2 + 2 * num_rows * width)
        return embedding + config.depth * (temporal + block(patches, num_patches))

    def activation_bytes(self, num_frames: int, height_px: int, width_px: int, *, half: bool) -> float:
        """See Backbone. The estimate is proportional to tokens, residual branches and width."""
        num_rows, num_patches = self._sizes(num_frames, height_px, width_px)
        values = num_rows * num_patches * self.config.depth * self._branches / BRANCHES
        if self.encodes_rows:
            values += num_rows * self.config.temporal_depth
        return values * self.width * (HALF_BYTES_A_VALUE if half else FULL_BYTES_A_VALUE)

    def _sizes(self, num_frames: int, height_px: int, width_px: int) -> tuple[int, int]:
        """Return the rows of a clip, and the patches of a row."""
        patch_px = self.config.patch_size_px
        return -(-num_frames // self.config.tubelet_size), (height_px // patch_px) * (width_px // patch_px)

    def normalise_as(self, config: ModelConfig) -> None:
        """See Backbone."""
        super().normalise_as(config)
        follow_weights(self, self.config)

    def init_weights(self, temporal_init: TemporalInit) -> None:
        """Draw the embeddings. A tubelet starts with its central frame, as published.

        With "zero", attention over time (model 3) has no effect at first. The published code zeroes all its weights,
        which then get no gradients; here only its output projection is zero. The temporal transformer of a factorised
        encoder has no such start: it replaces the features of the frames, and is drawn at random as published.
        """
        for name, parameter in self.named_parameters():
            if name.endswith(("cls_token", "pos_embed")):
                nn.init.trunc_normal_(parameter, std=TOKEN_STD)
            elif self.starts_at_zero(name, temporal_init):
                nn.init.zeros_(parameter)
        with torch.no_grad():
            weight = self.patch_embed.proj.weight
            weight.copy_(central_frame(weight[:, :, 0], self.config.tubelet_size))

    def start_from(self, name: str, available: Collection[str], temporal_init: TemporalInit) -> str | None:
        """See Backbone. Attention over time starts from attention over space, except what `init_weights` zeroes.

        With "random", only its norm does.
        """
        if name in available:
            return name
        spatial = re.sub(r"\.temporal_(attn\.qkv|norm1)\.", r".\1.", name)
        return spatial if spatial in available and (temporal_init == "zero" or "norm" in name) else None

    def starts_at_zero(self, name: str, temporal_init: TemporalInit) -> bool:
        """See Backbone. With "zero", this is the output projection of attention over time (model 3)."""
        return temporal_init == "zero" and ".temporal_attn.proj." in name

    def resized(self, name: str, tensor: Tensor, target: Tensor, resize: Resize, source: ModelConfig) -> Tensor:
        """See Backbone. Only positions can differ in size. `resize` has no effect: ViViT publishes no other way."""
        assert isinstance(source, ViViTConfig)
        rows, side = self.config.grid
        if name == "temporal_pos_embed":
            return resize_time(tensor, rows)
        if name != "pos_embed":
            return tensor
        if self.encodes_rows:
            return resize_positions(tensor, (1, source.grid[1]), (1, side, side))
        return resize_positions(tensor, source.grid, (rows, side, side))


def central_frame(kernel_DCYX: Tensor, tubelet_size: int) -> Tensor:
    """Return the kernel of a tubelet that reads only the frame tubelet_size // 2: [D, C, T, Y, X]."""
    kernel_DCTYX = kernel_DCYX.new_zeros(*kernel_DCYX.shape[:2], tubelet_size, *kernel_DCYX.shape[2:])
    kernel_DCTYX[:, :, tubelet_size // 2] = kernel_DCYX
    return kernel_DCTYX


def run(
    blocks: nn.ModuleList,
    tokens: Tokens,
    residual: Residual,
    groups: tuple[Group, ...],
    scales: list[tuple[Tensor | None, ...]],
) -> tuple[Tokens, Residual, tuple[Group, ...]]:
    """Run blocks, and return what they return, and the groups."""
    for block, scale in zip(blocks, scales, strict=True):
        tokens, residual = block(tokens, residual, groups, scale)
    return tokens, residual, groups


def with_class_token(
    values_FND: Tensor, bias: Tensor, groups: tuple[Group, ...], token_11D: Tensor, places: dict[int, Tensor]
) -> tuple[Tokens, Residual, tuple[Group, ...]]:
    """Make one sequence of each clip: a class token, then the tokens of all its rows, plus positions.

    Args:
        values_FND: The tokens without bias, clip by clip.
        bias: Their bias, [D].
        groups: The rows of a clip, and the number of clips, of each group.
        token_11D: The class token.
        places: For each number of rows, the positions [1, 1 + rows · N, D].

    Returns:
        Class token, positions and bias of each token [F, 1, D]; the values to add to them; and the number of tokens and
        clips of each group.
    """
    num_tokens, rows, values = values_FND.shape[1], [], []
    for part, (num_rows, num_clips) in zip(values_FND.split([r * b for r, b in groups]), groups, strict=True):
        place_1LD = places[num_rows]
        row_1LD = torch.cat([token_11D + place_1LD[:, :1], place_1LD[:, 1:] + bias], 1)
        rows.append(row_1LD.expand(num_clips, -1, -1).flatten(0, 1)[:, None])
        whole_BLD = F.pad(part.flatten(0, 1).unflatten(0, (num_clips, -1)), (0, 0, 1, 0))
        values.append(whole_BLD.flatten(0, 1)[:, None])
    sequences = tuple(Group(1 + num_rows * num_tokens, num_clips) for num_rows, num_clips in groups)
    tokens = Tokens.of(torch.cat(rows), compute_dtype(values_FND))
    return tokens, Residual(torch.cat(values), torch.zeros_like(bias), None, "all"), sequences


def flattened(tokens: Tokens, residual: Residual) -> tuple[Tokens, Residual]:
    """Pack tokens token by token: [F, N, D] → [F · N, 1, D]."""
    num_tokens = residual.values.shape[1]
    scale = None if residual.scale is None else residual.scale.repeat_interleave(num_tokens)
    values = residual.values.flatten(0, 1)[:, None]
    return tokens.map(lambda part: part.flatten(0, 1)[:, None]), residual._replace(values=values, scale=scale)


def class_tokens(tokens: Tokens, residual: Residual, sequences: tuple[Group, ...], norm: nn.LayerNorm) -> Tensor:
    """Add a residual to the first token of each sequence, and normalise it.

    Args:
        tokens: [F, 1, D].
        residual: What to add to them.
        sequences: The number of tokens, and of sequences, of each group.
        norm: The norm.

    Returns:
        [B, D].
    """

    def first(part_F: Tensor) -> Tensor:
        parts = part_F.split([length * b for length, b in sequences])
        return torch.cat([part.unflatten(0, (b, -1))[:, 0] for part, (_, b) in zip(parts, sequences, strict=True)])

    added_BD = first(residual.values)[:, 0] + residual.bias
    if residual.scale is not None:
        added_BD = added_BD * first(residual.scale)[:, None]
    out: Tensor = norm(tokens.map(first).exact[:, 0] + added_BD)
    return out


def resize_positions(positions_1LD: Tensor, grid: tuple[int, int], target: tuple[int, ...]) -> Tensor:
    """Resize positions in space (bicubic) and time (linear). The class token's is unchanged.

    Args:
        positions_1LD: [1, L, D], with or without a class token.
        grid: The rows in time, and the patches along a side of a frame, that they are for.
        target: The rows in time, and the rows and columns of patches.

    Returns:
        The positions of the other grid.
    """
    rows, side = grid
    if (rows, side, side) == target:
        return positions_1LD
    num_class = positions_1LD.shape[1] - rows * side**2
    place_TND = positions_1LD[0, num_class:].unflatten(0, (rows, -1))
    if (side, side) != target[1:]:
        place_TDYX = place_TND.transpose(1, 2).unflatten(2, (side, side))
        place_TDYX = F.interpolate(place_TDYX, size=list(target[1:]), mode="bicubic", align_corners=False)
        place_TND = place_TDYX.flatten(2).transpose(1, 2)
    place_1ED = interpolate_time(place_TND.flatten(1)[None], target[0]).unflatten(2, place_TND.shape[1:]).flatten(1, 2)
    return torch.cat([positions_1LD[:, :num_class], place_1ED], 1)


def resize_time(positions_1LD: Tensor, num_rows: int) -> Tensor:
    """Resize temporal positions [1, 1 + T, D] with a class token to another number of rows."""
    if num_rows == positions_1LD.shape[1] - 1:
        return positions_1LD
    return torch.cat([positions_1LD[:, :1], interpolate_time(positions_1LD[:, 1:], num_rows)], 1)


def interpolate_time(places_1TD: Tensor, num_rows: int) -> Tensor:
    """Interpolate linearly along time. A single row gets the first place."""
    if num_rows in (1, places_1TD.shape[1]):
        return places_1TD[:, :num_rows]
    return F.interpolate(places_1TD.transpose(1, 2), size=num_rows, mode="linear").transpose(1, 2)


def create_block(config: ViViTConfig) -> Block:
    """Build a block of the configured kind."""
    mlp = Mlp(config.width, config.mlp_width, APPROXIMATE[config.activation])
    if config.attention == "factorised_attention":
        return TimeSpaceBlock(config, mlp)
    attention = FactorisedHeads if config.attention == "factorised_heads" else Attention
    return Block(attention(config.width, config.num_heads), mlp, config.layer_norm_eps)


class TimeAttention(Attention):
    """Attention over the rows of a clip, for each patch position separately."""

    def mix(self, query_BHLE: Tensor, key_BHLE: Tensor, value_BHLE: Tensor, *, num_tokens: int) -> Tensor:
        """See Attention."""
        return attend_over_time(query_BHLE, key_BHLE, value_BHLE, num_tokens=num_tokens)


class FactorisedHeads(Attention):
    """Attention of the first half of the heads over time, and of the others over space."""

    def mix(self, query_BHLE: Tensor, key_BHLE: Tensor, value_BHLE: Tensor, *, num_tokens: int) -> Tensor:
        """See Attention."""
        halves = (part.chunk(2, dim=1) for part in (query_BHLE, key_BHLE, value_BHLE))
        (query_time, query_space), (key_time, key_space), (value_time, value_space) = halves
        time_FND = attend_over_time(query_time, key_time, value_time, num_tokens=num_tokens)
        space_FND = attend_over_space(query_space, key_space, value_space, num_tokens=num_tokens)
        return torch.cat([time_FND, space_FND], dim=-1)


def attend_over_time(query_BHLE: Tensor, key_BHLE: Tensor, value_BHLE: Tensor, *, num_tokens: int) -> Tensor:
    """Compute softmax attention over the rows of each clip, for each patch position separately.

    Args:
        query_BHLE: The queries of clips of equal length, row by row.
        key_BHLE: Their keys.
        value_BHLE: Their values.
        num_tokens: N, the tokens of a row.

    Returns:
        The rows of the clips, [F, N, D].
    """
    sequences = (
        part.unflatten(2, (-1, num_tokens)).permute(0, 3, 1, 2, 4).flatten(0, 1)  # [B·N, H, T, E]
        for part in (query_BHLE, key_BHLE, value_BHLE)
    )
    mixed_SHTE = F.scaled_dot_product_attention(*sequences)
    mixed_BTNHE = mixed_SHTE.unflatten(0, (-1, num_tokens)).permute(0, 3, 1, 2, 4)
    out: Tensor = mixed_BTNHE.flatten(3).flatten(0, 1)
    return out


def attend_over_space(query_BHLE: Tensor, key_BHLE: Tensor, value_BHLE: Tensor, *, num_tokens: int) -> Tensor:
    """Compute softmax attention over the tokens of each row; see `attend_over_time`."""
    rows = (
        part.unflatten(2, (-1, num_tokens)).transpose(1, 2).flatten(0, 1)  # [F, H, N, E]
        for part in (query_BHLE, key_BHLE, value_BHLE)
    )
    out: Tensor = F.scaled_dot_product_attention(*rows).transpose(1, 2).flatten(2)
    return out


class TimeSpaceBlock(Block):
    """Attention over time, attention over space, and MLP.

    Args:
        config: The configuration of the model.
        mlp: The MLP.
    """

    def __init__(self, config: ViViTConfig, mlp: Mlp) -> None:
        super().__init__(Attention(config.width, config.num_heads), mlp, config.layer_norm_eps)
        self.temporal_norm1 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.temporal_attn = TimeAttention(config.width, config.num_heads)

    def forward(  # type: ignore[override]
        self, tokens: Tokens, residual: Residual, groups: tuple[Group, ...], scales: Sequence[Tensor | None]
    ) -> tuple[Tokens, Residual]:
        """See Block. The factors are those of attention over time, attention over space, and MLP."""
        float8, eps = self.temporal_attn.qkv.float8, self.temporal_norm1.eps
        tokens, normed_FND = add_normalise(tokens, residual, groups, eps, float8=float8)
        values_FND = self.temporal_attn(normed_FND, self.temporal_norm1, groups)
        residual = Residual(values_FND, self.temporal_attn.proj.bias, scales[0], "all")
        return super().forward(tokens, residual, (Group(1, len(values_FND)),), scales[1:])
