"""The settings of a ViViT: recipe keys, named sizes, and the contents of config.json."""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from cover.config.families import ModelSection, Positive
from cover.errors import CoverError
from cover.models.config import Activation, Heads, ViTConfig, check_tubelets, config_of_variant, counted

FAMILY_NAME = "vivit"
Attention = Literal["joint", "factorised_encoder", "factorised_attention", "factorised_heads"]
"""Models 1, 2, 3 and 4 of the paper."""
TEMPORAL_DEPTH = 4
"""Blocks of a factorised encoder's temporal transformer: those of Base, and of Large for SSv2. K400's Large has 24."""


class Sizes(NamedTuple):
    """A named size.

    Attributes:
        depth: Number of blocks.
        width: Size of a token.
        num_heads: Attention heads per block.
        mlp_width: Features inside an MLP.
    """

    depth: int
    width: int
    num_heads: int
    mlp_width: int


VARIANTS: dict[str, Sizes] = {
    "vivit_base": Sizes(12, 768, 12, 3072),
    "vivit_large": Sizes(24, 1024, 16, 4096),
}
"""Those of Arnab et al. (2021)."""
MAX_SIZES = {"temporal_depth": 1024, "mlp_width": 2**18, "tubelet_size": 2**10}
"""Far above any published model. A damaged or hostile file may say 10⁹."""


class ViViTSection(ModelSection):
    """Architecture and input size."""

    variant: Literal["vivit_base", "vivit_large"] = "vivit_base"
    """Sets depth, width, attention heads and MLP width."""
    family: Literal["vivit"] = "vivit"
    """The kind of backbone."""
    attention: Attention = "joint"
    """Which model of the paper: "joint" (1), "factorised_encoder" (2), "factorised_attention" (3) or
    "factorised_heads" (4)."""
    num_frames: Positive = 32
    """Frames per clip: 1, or a multiple of `tubelet_size`. An image always has one."""
    patch_size: Positive = 16
    """Side of a patch in pixels."""
    tubelet_size: Positive = 2
    """Frames that one token is made of."""
    depth: Positive | None = None
    """Number of blocks, instead of the variant's. In a factorised encoder, those of the spatial transformer."""
    temporal_depth: Positive | None = None
    """Number of blocks of a factorised encoder's temporal transformer: 4 by default, and 24 in K400's Large. Other
    models have none."""
    width: Positive | None = None
    """Embedding width, instead of the variant's."""
    num_heads: Positive | None = None
    """Attention heads per block, instead of the variant's."""
    mlp_width: Positive | None = None
    """Features inside an MLP. By default the variant's, or 4 · `width` if that is set."""
    activation: Activation | None = None
    """The GELU of the MLPs. Weights bring theirs, so set it only if they do not state it. By default it is exact."""

    def unused_keys(self, *, has_init: bool) -> dict[str, str]:
        """See ModelSection."""
        unused = super().unused_keys(has_init=has_init)
        if self.attention != "factorised_attention":
            unused["temporal_init"] = f'no layer of attention = "{self.attention}" starts so'
        return unused


@dataclass(frozen=True, kw_only=True)
class ViViTConfig(ViTConfig):
    """The configuration of a ViViT.

    Attributes:
        attention: Which model of the paper.
        mlp_width: Features inside an MLP.
        temporal_depth: Number of blocks of a factorised encoder's temporal transformer, beside `depth` blocks of the
            spatial one. Other models have none.
        tubelet_size: Frames that one token is made of.

    Raises:
        CoverError: A value is impossible, or values do not fit together.
    """

    family: ClassVar[str] = FAMILY_NAME
    weight_sizes: ClassVar[tuple[str, ...]] = (
        "attention", *ViTConfig.weight_sizes, "mlp_width", "tubelet_size", "temporal_depth",
    )  # fmt: skip

    attention: Attention = "joint"
    mlp_width: int
    temporal_depth: int = TEMPORAL_DEPTH
    tubelet_size: int = 2
    num_frames: int = 32

    def __post_init__(self) -> None:
        for name, most in MAX_SIZES.items():
            self.check_size(name, most)
        super().__post_init__()
        if self.attention not in get_args(Attention):
            choices = ", ".join(get_args(Attention))
            raise CoverError(f"attention is {reprlib.repr(self.attention)}; use one of {choices}")
        check_tubelets(self.num_frames, self.tubelet_size, "ViViT")
        if self.attention != "factorised_encoder" and self.temporal_depth != TEMPORAL_DEPTH:
            raise CoverError(
                f"temporal_depth is {self.temporal_depth}, but {self.attention} has no temporal blocks; remove it"
            )
        if self.attention == "factorised_heads" and self.num_heads % 2:
            raise CoverError(
                f"num_heads {self.num_heads} is odd; factorised_heads need as many heads for time as for space"
            )

    @property
    def has_class_token(self) -> bool:
        """Whether the feature is that of a class token. Models 3 and 4 take the mean token."""
        return self.attention in ("joint", "factorised_encoder")

    @property
    def grid(self) -> tuple[int, int]:
        """The number of tubelets of a clip in time, and the patches along a side of a frame."""
        return -(-self.num_frames // self.tubelet_size), self.image_size_px // self.patch_size_px

    def describe(self, not_stated: Collection[str] = ()) -> str:
        """See ModelConfig."""
        temporal = (
            f"{counted(self.temporal_depth, 'temporal block')}, " if self.attention == "factorised_encoder" else ""
        )
        return (
            f"ViViT, {self.attention}, {self.describe_blocks(not_stated)}, {temporal}"
            f"tubelets of {self.tubelet_size} × {self.patch_size_px} × {self.patch_size_px}"
        )


def variant_config(variant: str, heads: Heads, **settings: Any) -> ViViTConfig:
    """Return the configuration of a named size.

    Args:
        variant: A key of VARIANTS.
        heads: For each dataset its class names, or their number.
        **settings: Other fields of ViViTConfig; None keeps the variant's value.

    Raises:
        CoverError: Values do not fit together.
    """
    sizes = VARIANTS[variant]._asdict() | {"activation": None}
    return config_of_variant(ViViTConfig, sizes, heads, settings)
