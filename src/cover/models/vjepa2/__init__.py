"""V-JEPA 2 (Assran et al. 2025) and 2.1: a plain ViT over tubelets, with rotary positions in time, height and width.

model.py          the layers
rotary.py         the positions
config.py         recipe keys, named sizes, config.json
formats.py        weights of other code bases
transformers.py   export for the transformers library

The attentive classifier of V-JEPA 2 is models/pooler.py, which every family can have.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from cover.config.families import ModelSection
from cover.models.config import Heads, ModelConfig
from cover.models.family import BackboneFamily, settings_of
from cover.models.vjepa2.config import FAMILY_NAME, VARIANTS, VJEPA2Config, VJEPA2Section, variant_config

if TYPE_CHECKING:
    from cover.models.checkpoints.tensor_view import WeightFormat
    from cover.models.family import Exporter
    from cover.models.vjepa2.model import VJEPA2


class VJEPA2Family(BackboneFamily):
    """V-JEPA 2 for the rest of the library."""

    name = FAMILY_NAME
    section = VJEPA2Section
    config = VJEPA2Config
    variants = VARIANTS

    def configure(self, section: ModelSection, heads: Heads, *, images_only: bool = False) -> VJEPA2Config:
        """See BackboneFamily. `images_only` changes nothing, because no layer only mixes frames."""
        assert isinstance(section, VJEPA2Section)
        return variant_config(section.variant, heads, **settings_of(section))

    def backbone(self, config: ModelConfig) -> VJEPA2:
        """See BackboneFamily."""
        from cover.models.vjepa2.model import VJEPA2

        assert isinstance(config, VJEPA2Config)
        return VJEPA2(config)

    @property
    def formats(self) -> tuple[WeightFormat, ...]:
        """The official V-JEPA 2 and 2.1, official probes, and the V-JEPA 2 of transformers."""
        from cover.models.vjepa2.formats import FORMATS

        return FORMATS

    @property
    def exporters(self) -> Mapping[str, Exporter]:
        """The transformers library, which has a V-JEPA 2 with an attentive head."""
        from cover.models.vjepa2.transformers import export_transformers

        return {"transformers": export_transformers}

    @property
    def attentive_exporters(self) -> Collection[str]:
        """The same."""
        return ("transformers",)


FAMILY = VJEPA2Family()
