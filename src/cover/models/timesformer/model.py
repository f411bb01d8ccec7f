"""The TimeSformer on packed frames of any clip lengths: embeddings, blocks, one head a dataset.

A space-only model treats every frame as a clip of its own, until the mean of their class tokens at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from cover.core.batch import ClipBatch, MixedBatch
from cover.errors import CoverError
from cover.models.config import ModelConfig
from cover.models.drop_path import drop_path_scales
from cover.models.hub import HubModel
from cover.models.kernels.residual import Residual, Tokens, join
from cover.models.packing import PackedClips, clip_means, pack, spread
from cover.models.timesformer.block import Block, BranchScales, LastBlock
from cover.models.timesformer.embeddings import PatchEmbed, resize_pos_embed, time_embed_for


class Heads(nn.ModuleDict):
    """One module a dataset, which may also be called like an attribute of a module: "train", "type", "keys".

    nn.ModuleDict refuses such names. Here `heads["train"]` is the head and `heads.train` the method.
    """

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Register a head."""
        self._modules[name] = module  # type: ignore[assignment]

    def train(self, mode: bool = True) -> Heads:
        """Switch between training and evaluation, also where a head is called "training"."""
        self.__dict__["training"] = mode
        for head in self.values():
            head.train(mode)
        return self


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
        self.blocks = nn.ModuleList([*(Block(config) for _ in range(config.depth - 1)), LastBlock(config)])
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.heads = Heads({name: nn.Linear(width, len(names)) for name, names in config.heads.items()})
        for name in ("mean", "std"):
            values = torch.tensor(getattr(config, name), dtype=torch.float32).view(-1, 1, 1)
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
        tokens, residual = self._embed(packed)
        *blocks, last_block = zip(self.blocks, self._branch_scales(packed), strict=True)
        for block, scales in blocks:
            tokens, residual = block(tokens, residual, groups, scales)
        block, scales = last_block
        class_BD = block(tokens, residual, groups, scales)
        if self.config.attention == "space_only":
            class_BD = clip_means(class_BD, groups)
        out: Tensor = self.norm(class_BD)
        return out

    def _embed(self, packed: PackedClips) -> tuple[Tokens, Residual]:
        """Class token, position and time of every token, to which the patches are still to be added."""
        patch_px = self.config.patch_size_px
        grid = tuple(side // patch_px for side in packed.frames_FCYX.shape[2:])
        place_1ND = resize_pos_embed(self.pos_embed, grid)
        class_11D, place_1ND = self.cls_token + place_1ND[:, :1], place_1ND[:, 1:]
        values_FND, bias = self.patch_embed(packed.frames_FCYX, self.mean, self.std)
        parts = []
        for num_frames, num_clips in packed.groups:
            place_TND = place_1ND.expand(num_frames, -1, -1)
            if self.config.attention != "space_only":
                place_TND = place_TND + time_embed_for(self.time_embed, num_frames).transpose(0, 1)
            tokens = Tokens.of(torch.cat([class_11D.expand(num_frames, -1, -1), place_TND], 1), values_FND.dtype)
            parts.append(tokens.map(partial(torch.repeat_interleave, repeats=num_clips, dim=0)))
        return join(parts), Residual(values_FND, bias, None, "patches")

    def _branch_scales(self, packed: PackedClips) -> list[BranchScales]:
        depth, rate = self.config.depth, self.config.drop_path_rate
        scales = [BranchScales(None, None, None)] * depth
        if self.training and rate > 0:
            scales_LRB = drop_path_scales(packed.seeds_B, depth, rate)
            scales_LRF = spread(scales_LRB.permute(2, 0, 1), packed.groups).permute(1, 2, 0)
            scales = [BranchScales(*scales_RF.contiguous()) for scales_RF in scales_LRF]
        if self.config.image_temporal == "skip":
            # Multiplied instead of left out, so that every parameter is in the graph of every batch.
            is_video_B = torch.cat([self.mean.new_full((b,), float(t > 1)) for t, b in packed.groups])
            is_video_F = spread(is_video_B, packed.groups)
            scales = [
                scale._replace(temporal=is_video_F if scale.temporal is None else is_video_F * scale.temporal)
                for scale in scales
            ]
        return scales
