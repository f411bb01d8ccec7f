"""Add a backbone of your own: as small as one can be, it puts the mean patch of a clip through one linear layer.

A distribution that declares it in its pyproject.toml adds the family to every command of cover:

    [project.entry-points."cover.families"]
    toy = "second_family:FAMILY"

A recipe chooses it by `model.family = "toy"`. This file trains with it directly:

    python second_family.py recipe.toml runs/toy
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cover.cli import main
from cover.config.families import ModelSection, Positive, register
from cover.models.backbone import Backbone
from cover.models.config import Heads, ModelConfig, class_names
from cover.models.family import BackboneFamily, settings_of
from cover.models.packing import PackedClips, clip_means


class ToySection(ModelSection):
    """[model] of a toy."""

    variant: Literal["toy"] = "toy"
    family: Literal["toy"] = "toy"
    width: Positive = 16
    """Features of a clip."""


@dataclass(frozen=True, kw_only=True)
class ToyConfig(ModelConfig):
    """What config.json holds of a toy."""

    family: ClassVar[str] = "toy"
    weight_sizes: ClassVar[tuple[str, ...]] = ("width",)
    width: int

    def describe(self, not_stated: Collection[str] = ()) -> str:
        return f"mean patch, width {self.width}"


class Toy(Backbone):
    """The mean patch of a clip, through a linear layer."""

    PATCH_PX = 8

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.layer = nn.Linear(3 * self.PATCH_PX**2, config.width)

    @property
    def width(self) -> int:
        return self.layer.out_features

    def forward(self, clips: PackedClips) -> Tensor:
        frames = clips.frames_FCYX
        if frames.dtype == torch.uint8:
            frames = (frames.float() / 255 - clips.mean_C11) / clips.std_C11
        patches = frames.unfold(2, self.PATCH_PX, self.PATCH_PX).unfold(3, self.PATCH_PX, self.PATCH_PX)
        return torch.tanh(self.layer(clip_means(patches.mean((2, 3)).flatten(1), clips.groups)))

    def units(self) -> Sequence[nn.Module]:
        return [self.layer]

    def layer_of(self, parameter: str) -> int:
        return 0

    @property
    def num_layers(self) -> int:
        return 1

    def multiply_adds(self, num_frames: int, height_px: int, width_px: int) -> int:
        return self.layer.weight.numel()

    def activation_bytes(self, num_frames: int, height_px: int, width_px: int, *, half: bool) -> float:
        return 4.0 * self.width


class ToyFamily(BackboneFamily):
    """The toy as cover sees it."""

    name, section, config, variants = "toy", ToySection, ToyConfig, ("toy",)

    def configure(self, section: ModelSection, heads: Heads, *, images_only: bool = False) -> ToyConfig:
        assert isinstance(section, ToySection)
        named = {name: class_names(classes) for name, classes in heads.items()}
        return ToyConfig(heads=named, **settings_of(section))

    def backbone(self, config: ModelConfig) -> Toy:
        assert isinstance(config, ToyConfig)
        return Toy(config)


FAMILY = ToyFamily()


if __name__ == "__main__":
    register(FAMILY)
    sys.argv = ["cover", "train", sys.argv[1], "--out", sys.argv[2]]
    main()
