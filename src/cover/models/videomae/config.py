"""The settings of a VideoMAE: recipe keys, named sizes, and the contents of config.json."""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from cover.config.families import ModelSection, Positive
from cover.errors import CoverError
from cover.models.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MIN_EPS,
    Activation,
    Heads,
    ViTConfig,
    check_tubelets,
    config_of_variant,
)

FAMILY_NAME = "videomae"


class Sizes(NamedTuple):
    """A named size.

    Attributes:
        depth: Number of blocks.
        width: Size of a token.
        num_heads: Attention heads per block.
        patch_size_px: Side of a patch.
        mlp_width: Features inside an MLP.
    """

    depth: int
    width: int
    num_heads: int
    patch_size_px: int
    mlp_width: int


VARIANTS: dict[str, Sizes] = {
    "videomae_small": Sizes(12, 384, 6, 16, 1536),
    "videomae_base": Sizes(12, 768, 12, 16, 3072),
    "videomae_large": Sizes(24, 1024, 16, 16, 4096),
    "videomae_huge": Sizes(32, 1280, 16, 16, 5120),
    "videomae_giant": Sizes(40, 1408, 16, 14, 6144),
}
"""Those of VideoMAE (Tong et al. 2022), and the giant of VideoMAE V2 (Wang et al. 2023)."""
MAX_SIZES = {"mlp_width": 2**18, "tubelet_size": 2**10}
"""Far above any published model. A damaged or hostile file may say 10⁹."""


class VideoMAESection(ModelSection):
    """Architecture and input size."""

    variant: Literal["videomae_small", "videomae_base", "videomae_large", "videomae_huge", "videomae_giant"] = (
        "videomae_base"
    )
    """Sets depth, width, attention heads, patch size and MLP width."""
    family: Literal["videomae"] = "videomae"
    """The kind of backbone."""
    num_frames: Positive = 16
    """Frames per clip: 1, or a multiple of `tubelet_size`. An image always has one."""
    patch_size: Positive | None = None
    """Side of a patch in pixels, instead of the variant's."""
    tubelet_size: Positive = 2
    """Frames that one token is made of."""
    depth: Positive | None = None
    """Number of blocks, instead of the variant's."""
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
        return super().unused_keys(has_init=has_init) | {"temporal_init": "no layer of a VideoMAE only mixes frames"}


@dataclass(frozen=True, kw_only=True)
class VideoMAEConfig(ViTConfig):
    """The configuration of a VideoMAE.

    Attributes:
        mlp_width: Features inside an MLP.
        tubelet_size: Frames that one token is made of.
        fc_norm_eps: Added to the variance in the norm of the mean token. Like `layer_norm_eps`, it belongs to the
            weights: official ones have 1e-6, those trained with transformers 1e-5.
        fc_norm: Whether there is that norm. Only the encoders of pre-training checkpoints have none.

    Raises:
        CoverError: A value is impossible, or values do not fit together.
    """

    family: ClassVar[str] = FAMILY_NAME
    weight_sizes: ClassVar[tuple[str, ...]] = (*ViTConfig.weight_sizes, "mlp_width", "tubelet_size")
    adopted: ClassVar[tuple[str, ...]] = (*ViTConfig.adopted, "fc_norm_eps")

    mlp_width: int
    tubelet_size: int = 2
    num_frames: int = 16
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    fc_norm_eps: float = 1e-6
    fc_norm: bool = True

    def __post_init__(self) -> None:
        for name, most in MAX_SIZES.items():
            self.check_size(name, most)
        super().__post_init__()
        if not isinstance(self.fc_norm_eps, float) or not MIN_EPS <= self.fc_norm_eps <= 1:
            raise CoverError(
                f"fc_norm_eps is {reprlib.repr(self.fc_norm_eps)}; it must be a number from {MIN_EPS} to 1"
            )
        if not isinstance(self.fc_norm, bool):
            raise CoverError(f"fc_norm is {reprlib.repr(self.fc_norm)}; it must be true or false")
        check_tubelets(self.num_frames, self.tubelet_size, "VideoMAE")

    def describe(self, not_stated: Collection[str] = ()) -> str:
        """See ModelConfig."""
        patch_px = self.patch_size_px
        return (
            f"VideoMAE, joint attention, {self.describe_blocks(not_stated)}, "
            f"tubelets of {self.tubelet_size} × {patch_px} × {patch_px}"
        )


def variant_config(variant: str, heads: Heads, **settings: Any) -> VideoMAEConfig:
    """Return the configuration of a named size.

    Args:
        variant: A key of VARIANTS.
        heads: For each dataset its class names, or their number.
        **settings: Other fields of VideoMAEConfig; None keeps the variant's value.

    Raises:
        CoverError: Values do not fit together.
    """
    sizes = VARIANTS[variant]._asdict() | {"activation": None}
    return config_of_variant(VideoMAEConfig, sizes, heads, settings)
