"""The settings of a TimeSformer: recipe keys, named sizes, and the contents of config.json."""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from cover.config.families import ModelSection, Positive
from cover.errors import CoverError
from cover.models.config import Activation, Heads, ViTConfig, config_of_variant

FAMILY_NAME = "timesformer"
Attention = Literal["divided", "joint", "space_only"]
"""divided: temporal, then spatial. joint: all patches of all frames at once. space_only: each frame by itself, for
pre-training on images (Eq. 1)."""
ImageTemporal = Literal["attend", "skip", "linear"]
"""What temporal attention does to a clip of one frame.

attend: the softmax over one key is 1, so the value and output projections remain (paper, appendix A). skip: it has no
effect (paper, Fig. 2). linear: a linear layer of its own takes its place, which starts with the effect of "attend", as
the pointwise branch of UniDual (Wang et al. 2019).
"""

# (depth, width, attention heads). Base and Large are those of the paper (§4.1, appendix B).
VARIANTS: dict[str, tuple[int, int, int]] = {
    "timesformer_tiny": (6, 192, 3),
    "timesformer_small": (12, 384, 6),
    "timesformer_base": (12, 768, 12),
    "timesformer_large": (24, 1024, 16),
}


class TimeSformerSection(ModelSection):
    """Architecture and input size."""

    variant: Literal["timesformer_tiny", "timesformer_small", "timesformer_base", "timesformer_large"] = (
        "timesformer_base"
    )
    """Sets depth, width and attention heads."""
    family: Literal["timesformer"] = "timesformer"
    """The kind of backbone."""
    patch_size: Positive = 16
    """Side of a patch, in pixels."""
    depth: Positive | None = None
    """Number of blocks, instead of the variant's."""
    width: Positive | None = None
    """Embedding width, instead of the variant's."""
    num_heads: Positive | None = None
    """Attention heads per block, instead of the variant's."""
    activation: Activation | None = None
    """The GELU of the MLPs. Weights bring theirs, so set it only if they do not state it. By default it is exact."""
    attention: Attention = "divided"
    """Space-time attention. The policy "pretrain" always uses "space_only" (paper, Eq. 1)."""
    image_temporal: ImageTemporal = "attend"
    """What images have for temporal attention: that of videos ("attend"), nothing ("skip"), or a linear layer of their
    own after the same norm ("linear", as in UniDual), which starts with the effect of "attend"."""

    def unused_keys(self, *, has_init: bool) -> dict[str, str]:
        """See ModelSection."""
        unused = super().unused_keys(has_init=has_init)
        if self.attention != "divided":
            unused["image_temporal"] = f'attention = "{self.attention}" has no temporal layers'
        if self.attention == "space_only":
            unused["temporal_init"] = 'attention = "space_only" has no temporal layers'
        return unused


@dataclass(frozen=True, kw_only=True)
class TimeSformerConfig(ViTConfig):
    """The configuration of a TimeSformer.

    Attributes:
        attention: See `Attention`.
        image_temporal: See `ImageTemporal`.

    Raises:
        CoverError: A value is impossible, or values do not fit together.
    """

    family: ClassVar[str] = FAMILY_NAME

    attention: Attention = "divided"
    image_temporal: ImageTemporal = "attend"

    def __post_init__(self) -> None:
        for name, choices in (("attention", Attention), ("image_temporal", ImageTemporal)):
            if (value := getattr(self, name)) not in get_args(choices):
                raise CoverError(f"{name} is {reprlib.repr(value)}; use {' or '.join(get_args(choices))}")
        super().__post_init__()

    @property
    def grid_size(self) -> int:
        """The number of patches along one side of a frame."""
        return self.image_size_px // self.patch_size_px

    def describe(self, not_stated: Collection[str] = ()) -> str:
        """See ModelConfig."""
        blocks = self.describe_blocks(not_stated)
        return f"{self.attention} attention, {blocks}, patches of {self.patch_size_px} px"


def variant_config(variant: str, heads: Heads, **settings: Any) -> TimeSformerConfig:
    """Return the configuration of a named size.

    Args:
        variant: A key of VARIANTS.
        heads: For each dataset its class names, or their number.
        **settings: Other fields of TimeSformerConfig; None keeps the variant's value.

    Raises:
        CoverError: Values do not fit together.
    """
    depth, width, num_heads = VARIANTS[variant]
    sizes = {"depth": depth, "width": width, "num_heads": num_heads, "activation": None}
    return config_of_variant(TimeSformerConfig, sizes, heads, settings)
