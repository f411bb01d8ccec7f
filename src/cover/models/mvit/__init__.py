"""MViT (Fan et al. 2021, Li et al. 2022): attention that pools queries, keys and values, in stages of fewer tokens.

model.py, block.py     the layers
pooling.py             grids of tokens, and how they are pooled
positions.py           relative and absolute positions
config.py              recipe keys, named sizes, config.json
formats.py             weights of other code bases
torchvision.py         export for torchvision
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cover.config.families import ModelSection
from cover.models.config import Heads, ModelConfig, class_names
from cover.models.family import BackboneFamily, settings_of
from cover.models.mvit.config import FAMILY_NAME, VARIANTS, MViTConfig, MViTSection, variant_values

if TYPE_CHECKING:
    from cover.models.checkpoints.tensor_view import WeightFormat
    from cover.models.family import Exporter
    from cover.models.mvit.model import MViT


class MViTFamily(BackboneFamily):
    """MViT for the rest of the library."""

    name = FAMILY_NAME
    section = MViTSection
    config = MViTConfig
    variants = VARIANTS

    def configure(self, section: ModelSection, heads: Heads, *, images_only: bool = False) -> MViTConfig:
        """See BackboneFamily. With `images_only`, kernels have one slot of time, as in an image MViT."""
        assert isinstance(section, MViTSection)
        settings = settings_of(section) | variant_values(section)
        named = {name: class_names(classes) for name, classes in heads.items()}
        return MViTConfig(heads=named, images_only=images_only, **settings)

    def backbone(self, config: ModelConfig) -> MViT:
        """See BackboneFamily."""
        from cover.models.mvit.model import MViT

        assert isinstance(config, MViTConfig)
        return MViT(config)

    @property
    def formats(self) -> tuple[WeightFormat, ...]:
        """The published MViTs of videos and images, and those of torchvision and timm."""
        from cover.models.mvit.formats import FORMATS

        return FORMATS

    @property
    def exporters(self) -> Mapping[str, Exporter]:
        """The torchvision library, which has an MViT."""
        from cover.models.mvit.torchvision import export_torchvision

        return {"torchvision": export_torchvision}


FAMILY = MViTFamily()
