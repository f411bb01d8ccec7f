"""ViViT (Arnab et al. 2021): four ways to attend over the tubelets of a clip.

model.py          the layers
config.py         recipe keys, named sizes, config.json
formats.py        weights of other code bases
inflation.py      plain image ViTs to start from
transformers.py   export for the transformers library
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cover.config.families import ModelSection
from cover.models.config import Heads, ModelConfig
from cover.models.family import BackboneFamily, settings_of
from cover.models.vivit.config import FAMILY_NAME, VARIANTS, ViViTConfig, ViViTSection, variant_config

if TYPE_CHECKING:
    from cover.models.checkpoints.source import Source
    from cover.models.checkpoints.tensor_view import WeightFormat
    from cover.models.family import Exporter
    from cover.models.vivit.model import ViViT


class ViViTFamily(BackboneFamily):
    """ViViT for the rest of the library."""

    name = FAMILY_NAME
    section = ViViTSection
    config = ViViTConfig
    variants = VARIANTS

    def configure(self, section: ModelSection, heads: Heads, *, images_only: bool = False) -> ViViTConfig:
        """See BackboneFamily. `images_only` changes nothing: an image is a clip of one tubelet."""
        assert isinstance(section, ViViTSection)
        return variant_config(section.variant, heads, **settings_of(section))

    def backbone(self, config: ModelConfig) -> ViViT:
        """See BackboneFamily."""
        from cover.models.vivit.model import ViViT

        assert isinstance(config, ViViTConfig)
        return ViViT(config)

    @property
    def formats(self) -> tuple[WeightFormat, ...]:
        """The official ViViT (scenic), and the ViViT of transformers."""
        from cover.models.vivit.formats import FORMATS

        return FORMATS

    def from_other_family(self, source: Source, config: ModelConfig) -> Source | None:
        """See BackboneFamily. A ViViT can start from a plain image ViT."""
        from cover.models.vivit.inflation import inflated

        assert isinstance(config, ViViTConfig)
        return inflated(source, config)

    @property
    def exporters(self) -> Mapping[str, Exporter]:
        """The transformers library, which has a joint ViViT."""
        from cover.models.vivit.transformers import export_transformers

        return {"transformers": export_transformers}


FAMILY = ViViTFamily()
