"""VideoMAE and VideoMAE V2 (Tong et al. 2022, Wang et al. 2023): a plain ViT over tubelets, with joint attention.

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
from cover.models.videomae.config import FAMILY_NAME, VARIANTS, VideoMAEConfig, VideoMAESection, variant_config

if TYPE_CHECKING:
    from cover.models.checkpoints.source import Source
    from cover.models.checkpoints.tensor_view import WeightFormat
    from cover.models.family import Exporter
    from cover.models.videomae.model import VideoMAE


class VideoMAEFamily(BackboneFamily):
    """VideoMAE for the rest of the library."""

    name = FAMILY_NAME
    section = VideoMAESection
    config = VideoMAEConfig
    variants = VARIANTS

    def configure(self, section: ModelSection, heads: Heads, *, images_only: bool = False) -> VideoMAEConfig:
        """See BackboneFamily. `images_only` changes nothing, because no layer only mixes frames."""
        assert isinstance(section, VideoMAESection)
        return variant_config(section.variant, heads, **settings_of(section))

    def backbone(self, config: ModelConfig) -> VideoMAE:
        """See BackboneFamily."""
        from cover.models.videomae.model import VideoMAE

        assert isinstance(config, VideoMAEConfig)
        return VideoMAE(config)

    @property
    def formats(self) -> tuple[WeightFormat, ...]:
        """The official VideoMAE and V2, and the VideoMAE of transformers; classifiers and pre-trained encoders."""
        from cover.models.videomae.formats import FORMATS

        return FORMATS

    def from_other_family(self, source: Source, config: ModelConfig) -> Source | None:
        """See BackboneFamily. A VideoMAE can start from a plain image ViT."""
        from cover.models.videomae.inflation import inflated

        assert isinstance(config, VideoMAEConfig)
        return inflated(source, config)

    @property
    def exporters(self) -> Mapping[str, Exporter]:
        """The transformers library, which has a VideoMAE."""
        from cover.models.videomae.transformers import export_transformers

        return {"transformers": export_transformers}


FAMILY = VideoMAEFamily()
