"""What a family of backbones provides to the rest of the library. A new family is one package that implements it.

This module does not load torch, so that recipes are checked without it. Families import their layers inside methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cover.config.families import Family, ModelSection, family_names, find_family
from cover.errors import CoverError
from cover.models.config import Heads, ModelConfig, PoolerConfig

if TYPE_CHECKING:
    from torch import Tensor

    from cover.models.backbone import Attribution, Backbone
    from cover.models.checkpoints.source import Source
    from cover.models.checkpoints.tensor_view import WeightFormat

    Exporter = Callable[[Any, Path, str | None], None]
    """Writes files for another library: (VideoClassifier, new folder, head or None) → None."""
    Attributor = Callable[[Backbone, Tensor, Callable[[Tensor], Tensor]], Attribution]
    """Explains a number: (backbone, normalised frames [T,C,Y,X], feature [D] → the number) → shares of the patches."""


class BackboneFamily(Family, ABC):
    """A kind of backbone: its settings and sizes, how models are built, and which files they are stored in.

    Attributes:
        config: The class of its configurations.
        variants: Its named sizes, which are the values of `model.variant` and the first argument of `create_model`.
    """

    config: type[ModelConfig]
    variants: Collection[str]

    @abstractmethod
    def configure(self, section: ModelSection, heads: Heads, *, images_only: bool = False) -> ModelConfig:
        """Turn the `[model]` section of a recipe into a configuration of a backbone; `configure` adds the pooler.

        Args:
            section: An instance of `self.section`.
            heads: For each dataset its class names, or their number.
            images_only: Whether to leave out the layers that mix frames, for training on images alone (paper, Eq. 1).

        Returns:
            An instance of `self.config`.

        Raises:
            CoverError: The values do not fit together.
        """

    @abstractmethod
    def backbone(self, config: ModelConfig) -> Backbone:
        """Build a backbone on torch's default device. Its weights are not initialised yet.

        Args:
            config: An instance of `self.config`.
        """

    @property
    def formats(self) -> tuple[WeightFormat, ...]:
        """Files of other code bases that models of this family can load. By default, none."""
        return ()

    def from_other_family(self, source: Source, config: ModelConfig) -> Source | None:
        """Present the weights of another family's model as those of this family, for a model to start from.

        Args:
            source: The weights, such as those of an image model.
            config: The configuration of the model.

        Returns:
            The weights with our names and shapes, or None if this family cannot start from them, which is the default.
        """
        return None

    @property
    def exporters(self) -> Mapping[str, Exporter]:
        """Functions that write a model for other libraries, by the library's name. By default, none."""
        return {}

    @property
    def attentive_exporters(self) -> Collection[str]:
        """The libraries that can express a model with an attentive head. By default, none."""
        return ()

    @property
    def attribution(self) -> Attributor | None:
        """The function that explains a class score by shares of the patches. By default, None: there is none."""
        return None


_NOT_OF_BACKBONE = frozenset(ModelSection.model_fields) - {"num_frames", "image_size"}
_IN_PIXELS = ("image_size", "patch_size")


def backbone_keys(section: type[ModelSection]) -> list[str]:
    """Return the keys of `[model]` that describe the backbone and its input.

    Args:
        section: The section of a family.
    """
    return [name for name in section.model_fields if name not in _NOT_OF_BACKBONE]


def field_of(key: str) -> str:
    """Return the field of a configuration that a key of `[model]` sets. Fields name their unit."""
    return f"{key}_px" if key in _IN_PIXELS else key


def settings_of(section: ModelSection) -> dict[str, Any]:
    """Return the keys of `[model]` that describe the backbone, as fields of a configuration.

    >>> settings_of(ModelSection(variant="any", image_size=64))
    {'num_frames': 8, 'image_size_px': 64, 'drop_path_rate': 0.1}

    Args:
        section: The section of any family.
    """
    names = [*backbone_keys(type(section)), "drop_path_rate"]
    return {field_of(name): getattr(section, name) for name in names}


def configure(section: ModelSection, heads: Heads, *, images_only: bool = False) -> ModelConfig:
    """Turn the `[model]` section of a recipe into a configuration, with the pooler of an attentive head.

    Args:
        section: The section of the family that it names.
        heads: For each dataset its class names, or their number.
        images_only: Whether to leave out the layers that mix frames.

    Raises:
        CoverError: The values do not fit together.
    """
    config = backbone_family(section.family).configure(section, heads, images_only=images_only)
    if section.head == "linear":
        return config
    return replace(config, pooler=PoolerConfig(depth=section.pooler_depth, num_heads=section.pooler_heads))


def family_of(config: ModelConfig) -> BackboneFamily:
    """Return the family of a configuration."""
    return backbone_family(config.family)


def backbone_family(name: str) -> BackboneFamily:
    """Return the family of this name.

    Raises:
        RecipeError: There is no such family.
    """
    family = find_family(name)
    assert isinstance(family, BackboneFamily), f"{family!r} is not a BackboneFamily"
    return family


def family_with_variant(variant: str) -> BackboneFamily:
    """Return the family that has a named size.

    Args:
        variant: The name of the size.

    Raises:
        CoverError: No family has it.
    """
    families = map(backbone_family, family_names())  # one by one: looking a family up imports it
    known: list[str] = []
    for family in families:
        if variant in family.variants:
            return family
        known += family.variants
    raise CoverError(f"unknown model variant {variant!r}; the variants are {', '.join(known)}")
