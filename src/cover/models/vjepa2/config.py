"""The settings of a V-JEPA 2: recipe keys, named sizes, and the contents of config.json."""

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
    MAX_VIT_SIZES,
    Heads,
    ModelConfig,
    check_tubelets,
    check_vit_sizes,
    config_of_variant,
    counted,
)

FAMILY_NAME = "vjepa2"
Version = Literal["2", "2.1"]


class Sizes(NamedTuple):
    """A named size. All have patches of 16 px.

    Attributes:
        version: That of the model.
        depth: Number of blocks.
        width: Size of a token.
        num_heads: Attention heads per block.
        mlp_width: Features inside an MLP.
        image_size_px: Side of the frames that the published weights were trained with last.
    """

    version: Version
    depth: int
    width: int
    num_heads: int
    mlp_width: int
    image_size_px: int


VARIANTS: dict[str, Sizes] = {
    "vjepa2_large": Sizes("2", 24, 1024, 16, 4096, 256),
    "vjepa2_huge": Sizes("2", 32, 1280, 16, 5120, 256),
    "vjepa2_giant": Sizes("2", 40, 1408, 22, 6144, 256),
    "vjepa2_giant_384": Sizes("2", 40, 1408, 22, 6144, 384),
    "vjepa2_1_base": Sizes("2.1", 12, 768, 12, 3072, 384),
    "vjepa2_1_large": Sizes("2.1", 24, 1024, 16, 4096, 384),
    "vjepa2_1_giant": Sizes("2.1", 40, 1408, 22, 6144, 384),
    "vjepa2_1_gigantic": Sizes("2.1", 48, 1664, 26, 8192, 384),
}
MAX_SIZES = MAX_VIT_SIZES | {"mlp_width": 2**18, "tubelet_size": 2**10}
"""Far above any published model. A damaged or hostile file may say 10⁹."""


class VJEPA2Section(ModelSection):
    """Architecture and input size."""

    variant: Literal[
        "vjepa2_large", "vjepa2_huge", "vjepa2_giant", "vjepa2_giant_384",
        "vjepa2_1_base", "vjepa2_1_large", "vjepa2_1_giant", "vjepa2_1_gigantic",
    ] = "vjepa2_large"  # fmt: skip
    """Sets the version (2 or 2.1), depth, width, attention heads and MLP width."""
    family: Literal["vjepa2"] = "vjepa2"
    """The kind of backbone."""
    num_frames: Positive = 16
    """Frames per clip: 1, or a multiple of `tubelet_size`. An image always has one."""
    image_size: Positive = 256
    """Side of the square crop, in pixels. Published weights were trained at 256, `_384` and 2.1 at 384."""
    patch_size: Positive = 16
    """Side of a patch in pixels."""
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

    def unused_keys(self, *, has_init: bool) -> dict[str, str]:
        """See ModelSection."""
        return super().unused_keys(has_init=has_init) | {"temporal_init": "no layer of a V-JEPA 2 only mixes frames"}


@dataclass(frozen=True, kw_only=True)
class VJEPA2Config(ModelConfig):
    """The configuration of a V-JEPA 2.

    Attributes:
        version: "2", or "2.1", which embeds images by themselves and has other rotary positions (rotary.py).
        depth: Number of blocks.
        width: Size of a token, D.
        num_heads: Attention heads per block.
        mlp_width: Features inside an MLP.
        patch_size_px: Side of a patch.
        tubelet_size: Frames that one token is made of.

    Raises:
        CoverError: A value is impossible, or values do not fit together.
    """

    family: ClassVar[str] = FAMILY_NAME
    weight_sizes: ClassVar[tuple[str, ...]] = (
        "version", "depth", "width", "num_heads", "mlp_width", "patch_size_px", "tubelet_size",
    )  # fmt: skip

    version: Version = "2"
    depth: int
    width: int
    num_heads: int
    mlp_width: int
    patch_size_px: int = 16
    tubelet_size: int = 2
    num_frames: int = 16
    image_size_px: int = 256
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        for name, most in MAX_SIZES.items():
            self.check_size(name, most)
        super().__post_init__()
        if self.version not in ("2", "2.1"):
            raise CoverError(f'version is {reprlib.repr(self.version)}; it must be "2" or "2.1"')
        check_tubelets(self.num_frames, self.tubelet_size, "V-JEPA 2")
        check_vit_sizes(self.image_size_px, self.patch_size_px, self.width, self.num_heads)
        if self.width // self.num_heads % 2:
            raise CoverError(
                f"width {self.width} and {self.num_heads} attention heads give {self.width // self.num_heads} features "
                "a head, and rotary positions turn pairs of them; change one of them"
            )

    def describe(self, not_stated: Collection[str] = ()) -> str:
        """See ModelConfig."""
        if "depth" in not_stated:
            return f"a probe without its encoder, a V-JEPA of width {self.width}; load the encoder first"
        num_heads = "heads not stated" if "num_heads" in not_stated else counted(self.num_heads, "head")
        return (
            f"V-JEPA {self.version}, joint attention, {counted(self.depth, 'block')}, width {self.width}, {num_heads}, "
            f"tubelets of {self.tubelet_size} × {self.patch_size_px} × {self.patch_size_px}"
        )


def variant_config(variant: str, heads: Heads, **settings: Any) -> VJEPA2Config:
    """Return the configuration of a named size.

    Args:
        variant: A key of VARIANTS.
        heads: For each dataset its class names, or their number.
        **settings: Other fields of VJEPA2Config; None keeps the variant's value.

    Raises:
        CoverError: Values do not fit together.
    """
    return config_of_variant(VJEPA2Config, VARIANTS[variant]._asdict(), heads, settings)
