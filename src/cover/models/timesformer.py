"""TimeSformer, exact to the published one, on packed frames of any clip lengths.

A block (Bertasius et al. 2021, divided attention; [c] is the class token, p the patches of a frame):

    [c | p]  p += temporal_fc(temporal attention(LN(p)))        over the frames of a clip, each patch by itself
    [c | p] += spatial attention(LN([c | p]))                   in each frame; c's residual averaged over the frames
    [c | p] += MLP(LN([c | p]))

Joint attention has one attention over c and the patches of all frames in place of the first two lines; space-only
leaves the first line out, and every frame is a clip of its own until the mean of their class tokens at the end.

Every frame carries a copy of its clip's class token. The copies stay equal, which saves taking them apart and
joining them again twice a block.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cover.clip import ClipBatch, MixedBatch
from cover.errors import CoverError
from cover.models.attention import JointAttention, SpatialAttention, TemporalAttention
from cover.models.config import ModelConfig
from cover.models.drop_path import drop_path_scales
from cover.models.embeddings import PatchEmbed, resize_pos_embed, time_embed_for
from cover.models.hub import HubModel
from cover.models.packing import Group, PackedClips, pack, spread, unpack

LAYER_NORM_EPS = 1e-6


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens_FND: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens_FND)))
        return out


class Block(nn.Module):
    """Temporal attention (divided only), spatial or joint attention, MLP; parameter names as published."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, num_heads = config.width, config.num_heads
        self.image_temporal = config.image_temporal
        self.temporal, self.joint = config.attention == "divided", config.attention == "joint"
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attn = (JointAttention if self.joint else SpatialAttention)(width, num_heads)
        if self.temporal:
            self.temporal_norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
            self.temporal_attn = TemporalAttention(width, num_heads)
            self.temporal_fc = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(width)

    def forward(self, tokens_FND: Tensor, groups: tuple[Group, ...], scales: Tensor | None) -> Tensor:
        """scales: [BRANCHES, F, 1, 1] factors of the residual branches (drop path), None when nothing is dropped."""
        temporal_scale, spatial_scale, mlp_scale = (None, None, None) if scales is None else scales.unbind()
        if self.temporal:
            temporal_FND = scaled(self._temporal(tokens_FND[:, 1:], groups), temporal_scale)
            tokens_FND = torch.cat([tokens_FND[:, :1], tokens_FND[:, 1:] + temporal_FND], dim=1)
        normed_FND = self.norm1(tokens_FND)
        spatial_FND = self.attn(normed_FND, groups) if self.joint else self.attn(normed_FND)
        if self.temporal:
            spatial_FND = average_class_token(spatial_FND, groups)
        tokens_FND = tokens_FND + scaled(spatial_FND, spatial_scale)
        return tokens_FND + scaled(self.mlp(self.norm2(tokens_FND)), mlp_scale)

    def _temporal(self, patches_FND: Tensor, groups: tuple[Group, ...]) -> Tensor:
        residual_FND: Tensor = self.temporal_attn(self.temporal_norm1(patches_FND), groups, self.temporal_fc)
        if self.image_temporal == "skip":
            # Multiplied instead of left out, so that every parameter is in the graph of every batch.
            residual_FND = residual_FND * torch.cat(
                [residual_FND.new_full((t * b, 1, 1), float(t > 1)) for t, b in groups]
            )
        return residual_FND


def scaled(residual_FND: Tensor, scale: Tensor | None) -> Tensor:
    """A residual branch times its drop-path factors, if there are any."""
    return residual_FND if scale is None else residual_FND * scale


def average_class_token(residual_FND: Tensor, groups: tuple[Group, ...]) -> Tensor:
    """Replace the class token's residual in each frame by its mean over the clip's frames."""
    class_FD = [part.mean(0, keepdim=True).expand_as(part).flatten(0, 1) for part in unpack(residual_FND[:, 0], groups)]
    return torch.cat([torch.cat(class_FD)[:, None], residual_FND[:, 1:]], dim=1)


class TimeSformer(nn.Module, HubModel):
    """A TimeSformer with one linear head a dataset.

    `model(batch)` takes a MixedBatch or {dataset: frames [T,B,C,Y,X]} and returns {dataset: logits [B, classes]}.
    uint8 frames are normalised inside, float frames are taken as normalised already. For a MixedBatch every dataset
    of the mixture is answered, an absent one by logits [0, classes], so that each rank's backward pass touches every
    parameter. Clips of any length and resolution are accepted; embeddings are resized to fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, num_patches = config.width, config.grid_size**2
        self.patch_embed = PatchEmbed(config.patch_size_px, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + num_patches, width))
        if config.attention != "space_only":
            self.time_embed = nn.Parameter(torch.zeros(1, config.num_frames, width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.heads = nn.ModuleDict({name: nn.Linear(width, len(names)) for name, names in config.heads.items()})
        for name in ("mean", "std"):
            values = torch.tensor(getattr(config, name)).view(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, batch: Mapping[str, ClipBatch] | Mapping[str, Tensor]) -> dict[str, Tensor]:
        names = list(batch.counts) if isinstance(batch, MixedBatch) else list(batch)
        for name in names:
            if name not in self.heads:
                raise CoverError(f"no head for dataset {name!r}; this model's heads are {', '.join(self.heads)}")
        packed = pack(batch)
        features_BD = self.features(packed)
        return {name: self.heads[name](features_BD[packed.rows.get(name, slice(0))]) for name in names}

    def predict(self, frames_TBCYX: Tensor) -> dict[str, Tensor]:
        """Logits of every head on the same clips: {dataset: [B, classes]}."""
        features_BD = self.features(pack({"": frames_TBCYX}))
        return {name: head(features_BD) for name, head in self.heads.items()}

    def features(self, packed: PackedClips) -> Tensor:
        """The class token after the final norm, one feature [B, D] a clip, in packed order.

        A space-only model has a class token of its own in each frame; their mean is taken, as in the published code.
        """
        groups = packed.groups
        tokens_FND = self._embed(packed)
        for block, scales in zip(self.blocks, self._drop_path(packed), strict=True):
            tokens_FND = block(tokens_FND, groups, scales)
        class_TBD = unpack(tokens_FND[:, 0], groups)
        if self.config.attention == "space_only":
            class_BD = torch.cat([group_TBD.mean(0) for group_TBD in class_TBD])
        else:  # a clip's copies are equal
            class_BD = torch.cat([group_TBD[0] for group_TBD in class_TBD])
        out: Tensor = self.norm(class_BD)
        return out

    def _embed(self, packed: PackedClips) -> Tensor:
        frames = packed.frames_FCYX
        if frames.dtype == torch.uint8:
            frames = (frames.float() / 255 - self.mean) / self.std
        patches_FDYX = self.patch_embed(frames)
        pos_embed = resize_pos_embed(self.pos_embed, tuple(patches_FDYX.shape[2:]))
        patches_FND = patches_FDYX.flatten(2).transpose(1, 2) + pos_embed[:, 1:]
        if self.config.attention != "space_only":
            time_FD = torch.cat([self._time(group) for group in packed.groups])
            patches_FND = patches_FND + time_FD[:, None]
        class_FND = (self.cls_token + pos_embed[:, :1]).expand(len(patches_FND), -1, -1)
        return torch.cat([class_FND.to(patches_FND.dtype), patches_FND], dim=1)

    def _time(self, group: Group) -> Tensor:
        return time_embed_for(self.time_embed, group.num_frames)[0].repeat_interleave(group.num_clips, 0)

    def _drop_path(self, packed: PackedClips) -> list[Tensor] | list[None]:
        rate, depth = self.config.drop_path_rate, self.config.depth
        if not self.training or rate == 0:
            return [None] * depth
        scales_LRB = drop_path_scales(packed.seeds_B, depth, rate)
        scales_LRF = spread(scales_LRB.permute(2, 0, 1), packed.groups).permute(1, 2, 0)
        return list(scales_LRF[..., None, None].unbind())
