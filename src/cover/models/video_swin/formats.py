"""The weight formats that a Video Swin can load: how other code bases name and lay out a Video Swin or an image Swin.

Our names are the published ones. Only heads differ: "heads.NAME.weight" here, "cls_head.fc_cls.weight" there.

An image Swin is a Video Swin whose windows have one slot of time. Its patch kernel is halved and repeated, so that a
clip of two equal frames has the tokens of the image. Its bias tables are repeated when a model with more slots loads
them (`VideoSwin.resized`). So a still clip has the features of the image.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count, takewhile
from math import isqrt
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from cover.config.layers import Section
from cover.core.run_files import CONFIG_FILE
from cover.errors import CoverError
from cover.models.checkpoints.config_files import (
    Colours,
    Square,
    check_settings,
    label_names,
    read_colours,
    read_object,
    side_of,
)
from cover.models.checkpoints.naming import HEAD, Naming
from cover.models.checkpoints.tensor_view import View, WeightFormat
from cover.models.config import IMAGENET_MEAN, IMAGENET_STD, class_names
from cover.models.video_swin.config import TUBELET, WINDOW, VideoSwinConfig

BIAS_TABLE = "layers.{}.blocks.{}.attn.relative_position_bias_table"
PATCH_KERNEL = "patch_embed.proj.weight"
REMEDY = "use weights of a plain Swin (version 1) or Video Swin"
USUAL_FRAMES = 32


def published_block(stage: int, block: int) -> str:
    """Return the prefix of a block's tensors in the published code."""
    return f"layers.{stage}.blocks.{block}."


def published_merging(stage: int) -> str:
    """Return the prefix of the patch merging after a stage in the published code."""
    return f"layers.{stage}.downsample."


def _inflated(name: str, part: Tensor) -> Tensor:
    """Halve and repeat the patch kernel of an image model."""
    if name != PATCH_KERNEL or part.ndim != 4:
        return part
    return part[:, :, None].expand(-1, -1, TUBELET[0], -1, -1) / TUBELET[0]


@dataclass(frozen=True)
class SwinNaming(Naming):
    """The names of one code base, whose blocks are numbered by stage.

    Attributes:
        block_of: (stage, block of the stage) → the prefix of the block's tensors.
        merging_of: Stage → the prefix of the patch merging after it.
    """

    block_of: Callable[[int, int], str] = published_block
    merging_of: Callable[[int], str] = published_merging
    layout: Callable[[str, Tensor], Tensor] | None = _inflated
    anchor: str = BIAS_TABLE.format(0, 0)
    input: tuple[str, ...] = (PATCH_KERNEL, "patch_embed.norm.weight")
    modules: Any = field(default_factory=lambda: {f"heads.{HEAD}": "head"})

    def theirs(self, name: str) -> list[str]:
        """See Naming."""
        place = r"layers\.(\d+)\.(?:blocks\.(\d+)|downsample)\."
        match = re.fullmatch(rf"(?:{place})?(.+?)(\.weight|\.bias)?", name)
        assert match
        stage, block, module, kind = match.groups(default="")
        if not stage:
            prefix, modules = "", self.modules
        elif not block:
            prefix, modules = self.merging_of(int(stage)), {}
        else:
            prefix, modules = self.block_of(int(stage), int(block)), self.block_modules
        return [f"{prefix}{other}{kind}" for other in modules.get(module, module).split()]


_IDLE = r".*relative_position_index|.*attn_mask"
PUBLISHED = SwinNaming(
    tidy={
        r"^backbone\.norm3\.": "norm.",  # mmaction2 counts the norms of all stages
        r"^backbone\.": "",
        r"^cls_head\.fc_cls\.": "head.",
        r"^head\.fc\.": "head.",  # timm
    },
    idle=rf"head|data_preprocessor|depth_patch_embed|{_IDLE}",
)
TIMM = SwinNaming(  # it merges patches at the beginning of a stage, not at the end of the one before
    tidy=PUBLISHED.tidy,
    merging_of=lambda stage: published_merging(stage + 1),
    idle=PUBLISHED.idle,
)
TORCHVISION = SwinNaming(
    block_of=lambda stage, block: f"features.{2 * stage}.{block}.",
    merging_of=lambda stage: f"features.{2 * stage + 1}.",
    block_modules={"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.3"},
    idle=rf"head|{_IDLE}",
)
# The image Swin of torchvision keeps the patches' layers in its first stage.
TORCHVISION_IMAGE = SwinNaming(
    block_of=lambda stage, block: f"features.{2 * stage + 1}.{block}.",
    merging_of=lambda stage: f"features.{2 * stage + 2}.",
    modules={f"heads.{HEAD}": "head", "patch_embed.proj": "features.0.0", "patch_embed.norm": "features.0.2"},
    block_modules=TORCHVISION.block_modules,
    idle=TORCHVISION.idle,
)
_TRANSFORMERS = {
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "patch_embed.norm": "embeddings.norm",
    "norm": "layernorm",
    f"heads.{HEAD}": "classifier",
}
_TRANSFORMERS_BLOCK = {"norm1": "layernorm_before", "norm2": "layernorm_after"}
TRANSFORMERS = SwinNaming(
    modules=_TRANSFORMERS,
    block_modules=_TRANSFORMERS_BLOCK
    | {
        "attn.relative_position_bias_table": "attention.self.relative_position_bias_table",
        "attn.qkv": " ".join(f"attention.self.{name}" for name in ("query", "key", "value")),
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    },
    block_of=lambda stage, block: f"encoder.{published_block(stage, block)}",
    merging_of=lambda stage: f"encoder.{published_merging(stage)}",
    tidy={r"(?<![^.])swin\.": ""},
    idle=rf"classifier|pooler|decoder|embeddings\.mask_token|{_IDLE}",
)
# Since version 5, transformers has other names in memory than in its own files. torch.save writes the former.
TRANSFORMERS_IN_MEMORY = SwinNaming(
    modules=_TRANSFORMERS,
    block_modules=_TRANSFORMERS_BLOCK
    | {
        "attn.relative_position_bias_table": "attention.relative_position_bias.relative_position_bias_table",
        "attn.qkv": "attention.q_proj attention.k_proj attention.v_proj",
        "attn.proj": "attention.o_proj",
    },
    block_of=TRANSFORMERS.block_of,
    merging_of=TRANSFORMERS.merging_of,
    tidy=TRANSFORMERS.tidy,
    idle=TRANSFORMERS.idle,
)


class _Transformers(Section, extra="ignore"):
    """config.json of transformers."""

    model_type: Literal["swin"] = "swin"
    hidden_act: Literal["gelu"] = "gelu"
    qkv_bias: Literal[True] = True
    use_absolute_embeddings: Literal[False] = False
    mlp_ratio: Annotated[float, Field(ge=4, le=4)] = 4.0
    num_channels: Literal[3] = 3
    layer_norm_eps: float | None = None
    image_size: Square | None = None
    quantization_config: None = None
    id2label: dict[str, str | int] | None = None


class _TimmInput(Section, extra="ignore"):
    mean: Colours | None = None
    std: Colours | None = None


class _Timm(_TimmInput, extra="ignore"):
    """config.json of timm. Older ones have the values of pretrained_cfg at the top level."""

    label_names: tuple[str, ...] | None = None
    pretrained_cfg: _TimmInput | None = None


def read_architecture(view: View, folder: Path) -> tuple[VideoSwinConfig, frozenset[str]]:
    """Find out which model the weights of another code base belong to.

    Args:
        view: The tensors.
        folder: The folder of the weights, which may have their settings.

    Returns:
        The configuration, and the names of its fields that the source does not state. These have their usual values,
        and "heads" has numbers for classes.

    Raises:
        CoverError: The shapes fit no model.
        CheckpointError: The settings are those of another model.
    """
    stages = takewhile(bool, (_depth(view, stage) for stage in count()))
    depths = tuple(stages)
    tables = [_axes(view, BIAS_TABLE.format(stage, 0), 2) for stage in range(len(depths))]
    width, *_ = _axes(view, PATCH_KERNEL, 5)
    window = _window(view, tables[0][0])
    stated = _settings(view, folder)
    num_classes = _num_classes(view)
    labels = stated.pop("labels", None)
    labels = labels if labels and len(labels) == num_classes else None
    values: dict[str, Any] = {
        "num_frames": 1 if window[0] == 1 else USUAL_FRAMES,
        "image_size_px": window[1] * TUBELET[1] << len(depths) - 1,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    }
    config = VideoSwinConfig(
        width=width,
        depths=depths,
        num_heads=tuple(num_heads for _, num_heads in tables),
        window=window,
        heads={HEAD: labels or class_names(num_classes)} if num_classes else {},
        **values | stated,
    )
    not_stated = values.keys() - stated.keys()
    return config, frozenset(not_stated | (set() if labels or not num_classes else {"heads"}))


def _depth(view: View, stage: int) -> int:
    """Return how many blocks a stage has."""
    return next(block for block in count() if not view.shape(f"{published_block(stage, block)}norm1.weight"))


def _window(view: View, num_rows: int) -> tuple[int, int, int]:
    """Return the window of a bias table.

    The index of relative positions tells it if the file has one: its side is the number of tokens in a window.
    Otherwise the time is that of a published window, if possible.
    """
    if _is_image(view):
        choices = [1]
    else:
        sides = [shape[0] for name, shape in view.file.shapes.items() if name.endswith("relative_position_index")]
        choices = [slots for slots in range(1, num_rows + 1) if _tokens(num_rows, slots) in sides] or [WINDOW[0], 16]
    for slots in choices:
        if tokens := _tokens(num_rows, slots):
            side = isqrt(tokens // slots)
            return slots, side, side
    raise CoverError(f"a bias table has {num_rows} rows, which fits no window")


def _tokens(num_rows: int, slots: int) -> int:
    """Return the tokens of a window with `slots` slots and a bias table of `num_rows` rows; 0 if there is none."""
    area, rest = divmod(num_rows, 2 * slots - 1)
    side = isqrt(area)
    return slots * ((side + 1) // 2) ** 2 if not rest and side**2 == area and side % 2 else 0


def _is_image(view: View) -> bool:
    return any(len(view.file.shapes[part]) == 4 for part in view.parts(PATCH_KERNEL))


def _settings(view: View, folder: Path) -> dict[str, Any]:
    """Return the fields of the configuration that a folder states, and the labels."""
    values, path = read_object(folder / CONFIG_FILE), folder / CONFIG_FILE
    found: dict[str, Any]
    if view.naming in (TRANSFORMERS, TRANSFORMERS_IN_MEMORY):
        stated = check_settings(_Transformers, values, path, REMEDY)
        mean, std = read_colours(folder, REMEDY)
        found = {
            "layer_norm_eps": stated.layer_norm_eps,
            "image_size_px": stated.image_size and side_of(stated.image_size),
            "labels": label_names(stated.id2label or {}),
        }
    elif values.keys() & {"architecture", "pretrained_cfg"}:
        timm = check_settings(_Timm, values, path, REMEDY)
        described = timm.pretrained_cfg or timm
        mean, std, found = described.mean, described.std, {"labels": timm.label_names}
    else:
        return {}
    found |= {"mean": mean, "std": std}
    return {name: value for name, value in found.items() if value is not None}


def _axes(view: View, name: str, num_axes: int) -> tuple[int, ...]:
    """Return the shape of a tensor. Raises CoverError if it has another number of axes."""
    sizes = view.shape(name) or ()
    if len(sizes) != num_axes or not all(sizes):
        raise CoverError(f"{name} is {list(sizes) or 'absent'}")
    return sizes


def _num_classes(view: View) -> int:
    """Return the rows of the classifier; 0 if there is none."""
    weight = view.shape(f"heads.{HEAD}.weight") or ()
    return weight[0] if len(weight) == 2 and view.shape(f"heads.{HEAD}.bias") == weight[:1] else 0


def _merges_first(view: View) -> bool:
    """Whether patches are merged at the beginning of a stage, as in timm."""
    return published_merging(0) + "norm.weight" not in view.names and published_merging(1) + "norm.weight" in view.names


def _is_omnivore(view: View) -> bool:
    """Whether the model takes depth, too. Its tensors for that stay unused, and its heads are in another dictionary.

    Clips have its features. A single image has others: Omnivore fills it up with a frame of zeros.
    """
    return any(name.startswith("depth_patch_embed.") for name in view.names)


def _format(name: str, origin: str, *namings: Naming, claims: Callable[[View], bool]) -> WeightFormat:
    return WeightFormat(name, origin, namings, read_architecture, partial(_claims, claims))


def _claims(claims: Callable[[View], bool], view: View, container: str) -> bool:
    return claims(view)


FORMATS = (
    _format(
        "video-swin",
        "the published Video Swin",
        PUBLISHED,
        claims=lambda view: not (_is_image(view) or _merges_first(view) or _is_omnivore(view)),
    ),
    _format("swin", "the published Swin", PUBLISHED, claims=lambda view: _is_image(view) and not _merges_first(view)),
    _format("omnivore", "Omnivore (licence CC BY-NC)", PUBLISHED, claims=_is_omnivore),
    _format("timm-swin", "timm's Swin", TIMM, claims=_merges_first),
    _format("torchvision-video-swin", "torchvision's Video Swin", TORCHVISION, claims=lambda view: True),
    _format("torchvision-swin", "torchvision's Swin", TORCHVISION_IMAGE, claims=lambda view: True),
    _format("transformers-swin", "transformers' Swin", TRANSFORMERS, TRANSFORMERS_IN_MEMORY, claims=lambda view: True),
)
