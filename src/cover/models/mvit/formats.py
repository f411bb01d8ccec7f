"""The weight formats that an MViT can load: how other code bases name and lay out an MViT of videos or images.

Our names are those of the published code. Only heads differ: "heads.NAME.weight" here, "head.projection.weight" there.

No file states by how much keys and values are pooled (`kv_stride`), and few tables depend on it. A model keeps its own
setting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product, takewhile
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple, get_args

from torch import Tensor

from cover.errors import CoverError
from cover.models.checkpoints.naming import HEAD, Naming
from cover.models.checkpoints.tensor_view import View, WeightFormat
from cover.models.config import IMAGENET_MEAN, IMAGENET_STD, MAX_DEPTH, class_names
from cover.models.mvit.config import (
    PATCH_STRIDE,
    VARIANTS,
    VIDEO_MEAN,
    VIDEO_STD,
    MViTConfig,
    WidenIn,
)

PATCH_KERNEL, ANCHOR = "patch_embed.proj.weight", "blocks.0.attn.pool_k.weight"
VIDEO_KV_STRIDES, IMAGE_KV_STRIDES = (8, 4, 2, 1), (4, 8, 2, 1)
"""What `kv_stride` may be, the published one first."""
IMAGENET_SIDE = 78
"""Tokens along a side of the published Large models of videos, 312 px. They alone are normalised as for ImageNet."""
TIMM_DEPTHS = sorted({sizes.depths for sizes in VARIANTS.values()} | {(1, 2, 5, 2), (4, 8, 60, 8)})
"""Those of timm's models: ours, Tiny and Huge."""


def _laid_out(name: str, part: Tensor) -> Tensor:
    """Give an image model's kernels a slot of time, and positions the axes that they have in the published code."""
    if name.startswith(("cls_token", "pos_embed")):
        return part.reshape(1, -1, part.shape[-1])
    return part[:, :, None] if part.ndim == 4 else part


PUBLISHED = Naming(
    anchor=ANCHOR, input=(PATCH_KERNEL,), modules={f"heads.{HEAD}": "head.projection"}, layout=_laid_out, idle="head"
)
TORCHVISION = Naming(
    anchor=ANCHOR,
    input=(PATCH_KERNEL,),
    modules={
        "patch_embed.proj": "conv_proj",
        "cls_token": "pos_encoding.class_token",
        "pos_embed_spatial": "pos_encoding.spatial_pos",
        "pos_embed_temporal": "pos_encoding.temporal_pos",
        "pos_embed_class": "pos_encoding.class_pos",
        f"heads.{HEAD}": "head.1",
    },
    block_modules={
        **{f"attn.pool_{name}": f"attn.pool_{name}.pool" for name in "qkv"},
        **{f"attn.norm_{name}": f"attn.pool_{name}.norm_act.0" for name in "qkv"},
        "attn.proj": "attn.project.0",
        "mlp.fc1": "mlp.0",
        "mlp.fc2": "mlp.3",
        "proj": "project",
    },
    layout=_laid_out,
    idle="head",
)


@dataclass(frozen=True)
class TimmNaming(Naming):
    """The names of timm, which counts blocks by stage.

    Attributes:
        depths: Number of blocks of each stage.
        widen_in: The layer that doubles the width. It names the projection beside it.
    """

    depths: tuple[int, ...] = ()
    widen_in: str = ""

    def theirs(self, name: str) -> list[str]:
        """See Naming."""
        if not name.startswith("blocks."):
            return super().theirs(name)
        _, number, rest = name.split(".", 2)
        stage, block = 0, int(number)
        while stage + 1 < len(self.depths) and block >= self.depths[stage]:
            block -= self.depths[stage]
            stage += 1
        if rest.startswith("proj."):
            rest = rest.replace("proj", "shortcut_proj_attn" if self.widen_in == "attention" else "shortcut_proj_mlp")
        return [f"stages.{stage}.blocks.{block}.{rest}"]


TIMM = tuple(
    TimmNaming(
        anchor=ANCHOR,
        input=(PATCH_KERNEL,),
        modules={f"heads.{HEAD}": "head.fc"},
        layout=_laid_out,
        idle="head",
        depths=depths,
        widen_in=widen_in,
    )
    for depths, widen_in in product(TIMM_DEPTHS, get_args(WidenIn))
)


class _Block(NamedTuple):
    """The sizes of a token: at the input of a block, after attention, and at the output."""

    width: int
    attention_width: int
    out_width: int


def read_architecture(view: View, folder: Path) -> tuple[MViTConfig, frozenset[str]]:
    """Find out which model the weights of another code base belong to.

    Args:
        view: The tensors.
        folder: Not used, because no code base writes settings beside the weights.

    Returns:
        The configuration, and the names of its fields that the source does not state. These have their usual values,
        and "heads" has numbers for classes.

    Raises:
        CoverError: The shapes fit no model.
    """
    blocks = list(takewhile(all, map(partial(_block, view), range(MAX_DEPTH))))
    if not blocks:
        raise CoverError("its first block has no qkv, or no MLP")
    widen_in, depths = _stages(blocks)
    _, _, slots, *_ = _axes(view, PATCH_KERNEL, 5)
    images_only, version = slots == 1, 1 if view.shape("pos_embed_spatial") else 2
    if version == 1:
        side = isqrt(_axes(view, "pos_embed_spatial", 3)[1])
        slots = 1 if images_only else _axes(view, "pos_embed_temporal", 3)[1]
    else:
        side = (_axes(view, "blocks.0.attn.rel_pos_h", 2)[0] + 1) // 2
        slots = 1 if images_only else (_axes(view, "blocks.0.attn.rel_pos_t", 2)[0] + 1) // 2
    num_classes = (view.shape(f"heads.{HEAD}.weight") or (0,))[0]
    is_imagenet = images_only or side == IMAGENET_SIDE
    kv_strides = IMAGE_KV_STRIDES if images_only else VIDEO_KV_STRIDES
    config = MViTConfig(
        version=version,
        width=blocks[0].width,
        depths=depths,
        num_heads=max(blocks[0].width // _axes(view, ANCHOR, 5)[0], 1),
        widen_in=widen_in or ("mlp" if version == 1 else "attention"),
        kv_stride=kv_strides[0],
        class_token=bool(view.shape("cls_token")),
        images_only=images_only,
        num_frames=1 if images_only else slots * PATCH_STRIDE[0],
        image_size_px=side * PATCH_STRIDE[1],
        heads={HEAD: class_names(num_classes)} if num_classes else {},
        mean=IMAGENET_MEAN if is_imagenet else VIDEO_MEAN,
        std=IMAGENET_STD if is_imagenet else VIDEO_STD,
    )
    choices = [replace(config, kv_stride=kv_stride) for kv_stride in kv_strides]
    config = next((choice for choice in choices if _has_tables(view, choice)), config)
    return config, frozenset({"kv_stride", "mean", "std"} | ({"heads"} if num_classes else set()))


def _has_tables(view: View, config: MViTConfig) -> bool:
    """Whether the tables of relative positions have the rows that a configuration says."""
    tables = [view.shape(f"blocks.{index}.attn.rel_pos_h") for index in range(sum(config.depths))]
    rows = [shape.table_rows[0] for shape in config.block_shapes()]
    return config.version == 1 or [table and table[0] for table in tables] == rows


def _block(view: View, index: int) -> Any:
    """Return the sizes of a block; zeros if there is none."""
    qkv, out = (view.shape(f"blocks.{index}.{name}.weight") or (0, 0) for name in ("attn.qkv", "mlp.fc2"))
    return _Block(qkv[-1], qkv[0] // 3, out[0])


def _stages(blocks: list[_Block]) -> tuple[str | None, tuple[int, ...]]:
    """Return the layer that doubles the width, if any does, and the number of blocks of each stage."""
    if firsts := [index for index, block in enumerate(blocks) if block.attention_width != block.width]:
        widen_in, starts = "attention", firsts
    else:
        starts = [index + 1 for index, block in enumerate(blocks) if block.out_width != block.attention_width]
        widen_in = "mlp" if starts else ""
    ends = [*starts, len(blocks)]
    return widen_in or None, tuple(end - start for start, end in zip([0, *starts], ends, strict=True))


def _axes(view: View, name: str, num_axes: int) -> tuple[int, ...]:
    """Return the shape of a tensor. Raises CoverError if it has another number of axes."""
    sizes = view.shape(name) or ()
    if len(sizes) != num_axes or not all(sizes):
        raise CoverError(f"{name} is {list(sizes) or 'absent'}")
    return sizes


def _is_image(view: View, container: str) -> bool:
    return (view.shape(PATCH_KERNEL) or (0, 0, 0))[2:3] == (1,)


def _is_video(view: View, container: str) -> bool:
    return not _is_image(view, container)


def _has_its_depths(view: View, container: str) -> bool:
    """Whether the blocks of each stage are as many as a naming of timm says, and the projection has its name."""
    naming = view.naming
    assert isinstance(naming, TimmNaming)
    norms = [name for name in view.names if name.endswith(".norm1.weight")]
    counts = [sum(name.startswith(f"stages.{stage}.") for name in norms) for stage in range(len(naming.depths))]
    start = naming.depths[0] - (naming.widen_in == "mlp")
    return tuple(counts) == naming.depths and bool(view.parts(f"blocks.{start}.proj.weight"))


def _format(name: str, origin: str, *namings: Naming, claims: Callable[[View, str], bool]) -> WeightFormat:
    return WeightFormat(name, origin, namings, read_architecture, claims)


FORMATS = (
    _format("mvit", "the published MViT", PUBLISHED, claims=_is_video),
    _format("image-mvit", "the published image MViT", PUBLISHED, claims=_is_image),
    _format("torchvision-mvit", "torchvision's MViT", TORCHVISION, claims=_is_video),
    _format("timm-mvit", "timm's MViT v2", *TIMM, claims=_has_its_depths),
)
