"""TimeSformer (Bertasius et al., 2021): divided, joint or space-only attention over the patches of frames.

model.py, block.py, attention.py, embeddings.py   the layers
config.py                                         recipe keys, named sizes, config.json
formats.py, architecture.py, settings.py          weights of other code bases
transformers.py                                   export for the transformers library
attribution.py, plain_forward.py                  how much each patch contributed to a class
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cover.config.families import ModelSection
from cover.errors import CheckpointError
from cover.models.config import Heads, ModelConfig
from cover.models.family import BackboneFamily, settings_of
from cover.models.timesformer.config import (
    FAMILY_NAME,
    VARIANTS,
    TimeSformerConfig,
    TimeSformerSection,
    variant_config,
)

if TYPE_CHECKING:
    from cover.models.checkpoints.source import Source
    from cover.models.checkpoints.tensor_view import WeightFormat
    from cover.models.family import Attributor, Exporter
    from cover.models.timesformer.model import TimeSformer


class TimeSformerFamily(BackboneFamily):
    """TimeSformer for the rest of the library."""

    name = FAMILY_NAME
    section = TimeSformerSection
    config = TimeSformerConfig
    variants = VARIANTS

    def configure(self, section: ModelSection, heads: Heads, *, images_only: bool = False) -> TimeSformerConfig:
        """See BackboneFamily. With `images_only`, attention is space-only."""
        assert isinstance(section, TimeSformerSection)
        settings = settings_of(section) | ({"attention": "space_only"} if images_only else {})
        return variant_config(section.variant, heads, **settings)

    def backbone(self, config: ModelConfig) -> TimeSformer:
        """See BackboneFamily."""
        from cover.models.timesformer.model import TimeSformer

        assert isinstance(config, TimeSformerConfig)
        return TimeSformer(config)

    @property
    def formats(self) -> tuple[WeightFormat, ...]:
        """The published TimeSformer, the TimeSformer of transformers, and plain ViTs."""
        from cover.models.timesformer.formats import FORMATS

        return FORMATS

    def from_other_family(self, source: Source, config: ModelConfig) -> Source | None:
        """See BackboneFamily. Every source that a TimeSformer can start from is one of its own formats."""
        if source.format.endswith("siglip"):
            raise CheckpointError(
                f"{source.path} ({source.format}) has no class token, and the feature of a TimeSformer is one; set "
                'model.family = "videomae", or start from CLIP or DINOv2'
            )
        return None

    @property
    def exporters(self) -> Mapping[str, Exporter]:
        """The transformers library, which has a TimeSformer."""
        from cover.models.timesformer.transformers import export_transformers

        return {"transformers": export_transformers}

    @property
    def attribution(self) -> Attributor:
        """Class relevance and attention rollout."""
        from cover.models.timesformer.attribution import attribute

        return attribute


FAMILY = TimeSformerFamily()
