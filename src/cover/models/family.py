"""What the rest of the library asks of a family of backbones. A new family is one package that answers this.

Nothing here loads torch: a recipe is checked without it. Families import their layers inside these methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cover.config.families import Family, ModelSection, family_names, find_family
from cover.errors import CoverError
from cover.models.config import Heads, ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

    from cover.models.backbone import Attribution, Backbone
    from cover.models.checkpoints.views import WeightFormat

    Exporter = Callable[[Any, Path, str | None], None]
    """(VideoClassifier, new folder, head or None) → files for another library."""
    Attributor = Callable[[Backbone, Tensor, Callable[[Tensor], Tensor]], Attribution]
    """(backbone, normalised frames [T,C,Y,X], feature [D] → the number to explain) → shares of the patches."""


class BackboneFamily(Family, ABC):
    """A kind of backbone: its settings, its sizes, and how it is built and stored.

    Attributes:
        config: The class of its configurations.
        variants: Named sizes, as `[model]` and `create_model` take them.
    """

    config: type[ModelConfig]
    variants: Collection[str]

    @abstractmethod
    def configure(self, section: ModelSection, heads: Heads, *, images_only: bool = False) -> ModelConfig:
        """Turn the `[model]` section of a recipe into a configuration.

        Args:
            section: Of the type `self.section`.
            heads: The class names of each dataset, or their number.
            images_only: Leave out what mixes frames, for training on images alone (paper, Eq. 1).

        Raises:
            CoverError: The values do not fit together.
        """

    @abstractmethod
    def backbone(self, config: ModelConfig) -> Backbone:
        """Build a backbone whose weights are not set yet, on torch's default device."""

    @property
    def formats(self) -> tuple[WeightFormat, ...]:
        """The files of other code bases that are weights of this family; none by default."""
        return ()

    @property
    def exporters(self) -> Mapping[str, Exporter]:
        """What writes a model for other libraries, by the library's name; none by default."""
        return {}

    @property
    def attribution(self) -> Attributor | None:
        """What tells which patches spoke for a class; None where the family explains nothing."""
        return None


def family_of(config: ModelConfig) -> BackboneFamily:
    """The family of a configuration."""
    return backbone_family(config.family)


def backbone_family(name: str) -> BackboneFamily:
    """Look a family up. Raises RecipeError for an unknown name."""
    family = find_family(name)
    assert isinstance(family, BackboneFamily), f"{family!r} is no BackboneFamily"
    return family


def family_with_variant(variant: str) -> BackboneFamily:
    """The family that has a named size. Raises CoverError where none has."""
    families = [backbone_family(name) for name in family_names()]
    for family in families:
        if variant in family.variants:
            return family
    known = ", ".join(name for family in families for name in family.variants)
    raise CoverError(f"unknown model variant {variant!r}; the variants are {known}")
