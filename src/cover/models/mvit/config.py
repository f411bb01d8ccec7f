"""The settings of an MViT: recipe keys, named sizes, the layout of its blocks, and the contents of config.json."""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from cover.config.families import ModelSection, Positive
from cover.errors import CoverError
from cover.models.config import MAX_DEPTH, ModelConfig

FAMILY_NAME = "mvit"
PATCH_KERNEL, PATCH_STRIDE = (3, 7, 7), (2, 4, 4)
"""Frames, rows and columns of pixels that a token sees, and how far apart tokens are."""
STAGE_STRIDE = 2
"""Rows and columns of the tokens of a stage that become one of the next."""
VIDEO_MEAN, VIDEO_STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
"""The normalisation of published models for videos, except the Large ones."""

WidenIn = Literal["attention", "mlp"]


class Sizes(NamedTuple):
    """A named size.

    Attributes:
        version: 1 or 2.
        width: Size of a token in the first stage.
        depths: Number of blocks of each stage.
        num_heads: Attention heads in the first stage.
        widen_in: The layer that doubles the width.
    """

    version: int
    width: int
    depths: tuple[int, ...]
    num_heads: int
    widen_in: WidenIn


VARIANTS: dict[str, Sizes] = {
    "mvitv1_base": Sizes(1, 96, (1, 2, 11, 2), 1, "mlp"),
    "mvitv2_small": Sizes(2, 96, (1, 2, 11, 2), 1, "attention"),
    "mvitv2_base": Sizes(2, 96, (2, 3, 16, 3), 1, "attention"),
    "mvitv2_large": Sizes(2, 144, (2, 6, 36, 4), 2, "attention"),
}
"""Those of Fan et al. (2021) and Li et al. (2022)."""
MAX_STAGES, MAX_SIZE = 8, 2**16
"""Far above any published model. A damaged or hostile file may say 10⁹."""


class MViTSection(ModelSection):
    """Architecture and input size."""

    variant: Literal["mvitv1_base", "mvitv2_small", "mvitv2_base", "mvitv2_large"] = "mvitv2_small"
    """Sets version, width, depths and attention heads."""
    family: Literal["mvit"] = "mvit"
    """The kind of backbone."""
    num_frames: Positive = 16
    """Frames per clip. An image always has one."""
    kv_stride: Positive = 8
    """By how much keys and values are pooled in the first stage, in rows and columns. Each further stage halves it.
    Published: 8 for videos, 4 for images."""
    class_token: bool = True
    """Whether there is a class token, which becomes the feature. Without it, the mean token does, as in most published
    image models."""
    width: Positive | None = None
    """Size of a token in the first stage, instead of the variant's. It doubles from stage to stage."""
    depths: tuple[Positive, ...] | None = None
    """Number of blocks of each stage, instead of the variant's."""
    num_heads: Positive | None = None
    """Attention heads in the first stage, instead of the variant's. They double, too."""
    widen_in: WidenIn | None = None
    """Which layer doubles the width, instead of the variant's: the attention of a stage's first block, or the MLP of
    the last block before it. The Large image model that is trained on ImageNet-1k has "mlp"."""

    def unused_keys(self, *, has_init: bool) -> dict[str, str]:
        """See ModelSection."""
        unused = super().unused_keys(has_init=has_init)
        return unused if has_init else unused | {"temporal_init": "without init, all weights start at random"}


class BlockShape(NamedTuple):
    """What distinguishes the blocks of a model.

    Attributes:
        width: Size of a token at the input.
        attention_width: Size of a token after attention.
        out_width: Size of a token at the output.
        num_heads: Attention heads.
        stride: By how much rows and columns are pooled: 1 or STAGE_STRIDE.
        kv_stride: By how much keys and values are pooled.
        pools_queries: Whether queries are pooled. With a stride of 1, a convolution still mixes neighbours.
        table_rows: Rows of the table of relative positions in space, and in time.
    """

    width: int
    attention_width: int
    out_width: int
    num_heads: int
    stride: int
    kv_stride: int
    pools_queries: bool
    table_rows: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class MViTConfig(ModelConfig):
    """The configuration of an MViT.

    Attributes:
        version: 1: learned absolute positions. 2: relative positions in every block, and pooled queries that are added
            to what attention returns.
        width: Size of a token in the first stage. It doubles from stage to stage.
        depths: Number of blocks of each stage.
        num_heads: Attention heads in the first stage. They double, too.
        widen_in: The layer that doubles the width.
        kv_stride: By how much keys and values are pooled in the first stage.
        class_token: Whether the feature is a class token, or else the mean token.
        images_only: Whether there are no layers that mix frames, as in an image MViT.

    Raises:
        CoverError: A value is impossible, or values do not fit together.
    """

    family: ClassVar[str] = FAMILY_NAME
    weight_sizes: ClassVar[tuple[str, ...]] = ("version", "depths", "width", "num_heads", "widen_in")

    version: int
    width: int
    depths: tuple[int, ...]
    num_heads: int
    widen_in: str
    kv_stride: int = 8
    class_token: bool = True
    images_only: bool = False
    num_frames: int = 16
    mean: tuple[float, ...] = VIDEO_MEAN
    std: tuple[float, ...] = VIDEO_STD

    def __post_init__(self) -> None:
        self.check_size("version", 2)
        for name in ("width", "num_heads", "kv_stride"):
            self.check_size(name, MAX_SIZE)
        if isinstance(self.depths, list):  # JSON has no tuples
            object.__setattr__(self, "depths", tuple(self.depths))
        super().__post_init__()
        depths = self.depths
        if (
            not isinstance(depths, tuple)
            or not 1 <= len(depths) <= MAX_STAGES
            or not all(map(_is_depth, depths))
            or sum(depths) > MAX_DEPTH
        ):
            raise CoverError(
                f"depths are {reprlib.repr(depths)}; give the number of blocks of each of 1 to {MAX_STAGES} stages, "
                f"at most {MAX_DEPTH:,} in all"
            )
        if self.widen_in not in get_args(WidenIn):
            choices = " or ".join(get_args(WidenIn))
            raise CoverError(f"widen_in is {reprlib.repr(self.widen_in)}; it must be {choices}")
        for name in ("class_token", "images_only"):
            if not isinstance(getattr(self, name), bool):
                raise CoverError(f"{name} is {reprlib.repr(getattr(self, name))}; it must be true or false")
        if self.width % self.num_heads:
            raise CoverError(
                f"width {self.width} is not a multiple of the {self.num_heads} attention heads; change one of them"
            )

    @property
    def last_width(self) -> int:
        """The size of a token in the last stage."""
        return self.width << len(self.depths) - 1

    @property
    def head_width(self) -> int:
        """The features of an attention head, equal in all stages."""
        return self.width // self.num_heads

    @property
    def kernel_frames(self) -> int:
        """The slots of time that a convolution sees."""
        return 1 if self.images_only else PATCH_KERNEL[0]

    @property
    def frame_stride(self) -> int:
        """How many frames apart tokens are."""
        return 1 if self.images_only else PATCH_STRIDE[0]

    @property
    def patch_grid(self) -> tuple[int, int]:
        """The tokens of a clip in time, and along a side of a frame."""
        return -(-self.num_frames // self.frame_stride), -(-self.image_size_px // PATCH_STRIDE[1])

    def block_shapes(self) -> list[BlockShape]:
        """Return the shape of every block, from input to output."""
        slots, side = self.patch_grid
        shapes, width = [], self.width
        for stage, depth in enumerate(self.depths):
            kv_stride = max(self.kv_stride >> stage, 1)
            for block in range(depth):
                stride = STAGE_STRIDE if stage and not block else 1
                attention_width = self.width << stage if self.widen_in == "attention" else width
                is_last = block + 1 == depth and stage + 1 < len(self.depths)
                out_width = attention_width << int(is_last and self.widen_in == "mlp")
                # As in the published code, sides are rounded down here. Tables are resized where that is too short.
                longest = max(side // stride, side // kv_stride, 1)
                shapes.append(
                    BlockShape(
                        width=width,
                        attention_width=attention_width,
                        out_width=out_width,
                        num_heads=attention_width // self.head_width,
                        stride=stride,
                        kv_stride=kv_stride,
                        pools_queries=self.version == 2 or stride > 1,
                        table_rows=(2 * longest - 1, 2 * slots - 1),
                    )
                )
                width, side = out_width, side // stride
        return shapes

    def describe(self, not_stated: Collection[str] = ()) -> str:
        """See ModelConfig."""
        depths = " + ".join(map(str, self.depths))
        heads = f"{self.num_heads} to {self.num_heads << len(self.depths) - 1} heads"
        kind = "image " if self.images_only else ""
        return f"{kind}MViT v{self.version}, {depths} blocks, width {self.width} to {self.last_width}, {heads}"


def variant_values(section: MViTSection) -> dict[str, Any]:
    """Return version, width, depths, heads and place of widening of a section: its own, or the variant's."""
    usual = VARIANTS[section.variant]._asdict()
    return {name: getattr(section, name, None) or value for name, value in usual.items()}


def _is_depth(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
