"""The weights that a ViViT can load: the official ones of scenic (JAX), and those of transformers.

Official files are Flax checkpoints, or .npz files with the same names.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import count
from math import isqrt
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from cover.config.layers import Section
from cover.core.run_files import CONFIG_FILE
from cover.errors import CoverError
from cover.models.checkpoints.config_files import (
    ACTIVATIONS,
    PREPROCESSOR_FILE,
    Colours,
    HiddenAct,
    Size,
    Square,
    check_settings,
    label_names,
    read_object,
    side_of,
)
from cover.models.checkpoints.naming import HEAD, Naming
from cover.models.checkpoints.tensor_view import View, WeightFormat
from cover.models.config import class_names
from cover.models.vivit.config import TEMPORAL_DEPTH, Attention, ViViTConfig

ANCHOR, INPUT = "blocks.0.attn.qkv.weight", ("patch_embed.proj.weight", "pos_embed")
REMEDY = "use weights of a ViViT"
ANY_NUM_HEADS = 2
"""A placeholder for a number of attention heads that the source does not state. It divides every usual width."""
PUBLISHED_ROWS, USUAL_PX, MAX_ROWS = 16, 224, 2**10
"""Rows of tubelets of all published models: 32 frames. The usual side of a frame. The most rows that are tried."""
SPATIAL, TEMPORAL = "SpatialTransformer", "TemporalTransformer"


def _torch_layout(name: str, part: Tensor) -> Tensor:
    """Convert a tensor of Flax to torch's layout."""
    if name == "patch_embed.proj.weight":  # frames, patch rows, patch columns, in, out
        return part.permute(4, 3, 0, 1, 2)
    if name.endswith("attn.qkv.weight"):  # in, heads, channels of a head
        return part.flatten(1).mT
    if name.endswith("attn.proj.weight"):  # heads, channels of a head, out
        return part.flatten(0, 1).mT
    if name.endswith("attn.qkv.bias"):
        return part.flatten()
    return part.T if part.ndim == 2 else part


class _Scenic(Naming):
    """Names of scenic. The temporal transformer of a factorised encoder has those of the spatial one."""

    def theirs(self, name: str) -> list[str]:
        """See Naming."""
        if not name.startswith("temporal_") or SPATIAL not in self.block:
            return super().theirs(name)
        return [part.replace(SPATIAL, TEMPORAL) for part in super().theirs(name.removeprefix("temporal_"))]


def _scenic(transformer: str, cls_token: str, attention: str, time: str = "time") -> _Scenic:
    """Return the names of a model.

    Args:
        transformer: The name of its (spatial) transformer.
        cls_token: That of its class token.
        attention: What the names of attention over space end with, such as "0".
        time: What those of attention over time end with.
    """
    space = attention == "space"

    def qkv(end: str) -> str:
        return " ".join(f"MultiHeadDotProductAttention_{end}/{part}" for part in ("query", "key", "value"))

    mlp = "MlpBlock" if space else "MlpBlock_0"
    return _Scenic(
        anchor=ANCHOR,
        input=INPUT,
        modules={
            "cls_token": cls_token,
            "pos_embed": f"{transformer}/posembed_input/pos_embedding",
            "patch_embed.proj": "embedding",
            "norm": f"{transformer}/encoder_norm",
            f"heads.{HEAD}": "output_projection",
        },
        block_modules={
            "temporal_norm1": f"LayerNorm_{time}",
            "temporal_attn.qkv": qkv(time),
            "temporal_attn.proj": f"MultiHeadDotProductAttention_{time}/out",
            "norm1": f"LayerNorm_{attention}",
            "attn.qkv": qkv(attention),
            "attn.proj": f"MultiHeadDotProductAttention_{attention}/out",
            "norm2": "LayerNorm_mlp" if space else "LayerNorm_1",
            "mlp.fc1": f"{mlp}/Dense_0",
            "mlp.fc2": f"{mlp}/Dense_1",
        },
        block=f"{transformer}/encoderblock_{{}}/",
        tidy={r"/(kernel|scale)$": ".weight", r"/bias$": ".bias"},
        layout=_torch_layout,
        idle="output_projection",
    )


SCENIC = (
    _scenic("Transformer", "cls", "0"),
    _scenic(SPATIAL, f"cls_{SPATIAL}", "0"),
    _scenic("Transformer", "cls", "space"),
)
"""Models 1 and 4; model 2; model 3."""


TRANSFORMERS = Naming(
    anchor=ANCHOR,
    input=INPUT,
    modules={
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
        f"heads.{HEAD}": "classifier",
    },
    block_modules={
        "norm1": "layernorm_before",
        "attn.qkv": " ".join(f"attention.attention.{part}" for part in ("query", "key", "value")),
        "attn.proj": "attention.output.dense",
        "norm2": "layernorm_after",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    },
    block="encoder.layer.{}.",
    tidy={r"(?<![^.])vivit\.": ""},
    idle=r"classifier|pooler",
)
# Since version 5, transformers has other names in memory than in its own files. torch.save writes the former.
TRANSFORMERS_IN_MEMORY = replace(
    TRANSFORMERS,
    block_modules={
        "norm1": "layernorm_before",
        "attn.qkv": "attention.q_proj attention.k_proj attention.v_proj",
        "attn.proj": "attention.o_proj",
        "norm2": "layernorm_after",
    },
    block="layers.{}.",
)


class _Settings(Section, extra="ignore"):
    """config.json of transformers."""

    model_type: Literal["vivit"]
    num_attention_heads: Size | None = None
    num_channels: Literal[3] = 3
    num_frames: Size = 32
    image_size: Square = 224
    hidden_act: HiddenAct = "gelu_fast"
    qkv_bias: Literal[True] = True
    layer_norm_eps: Annotated[float, Field(gt=0, le=1)] = 1e-6
    quantization_config: None = None
    id2label: dict[str, str | int] | None = None


class _Processor(Section, extra="ignore"):
    """preprocessor_config.json of transformers' VivitImageProcessor."""

    do_rescale: Literal[True] = True
    rescale_factor: Annotated[float, Field(gt=0, le=1)] = 1 / 127.5
    offset: bool = True
    do_normalize: bool = True
    image_mean: Colours = (0.5, 0.5, 0.5)
    image_std: Colours = (0.5, 0.5, 0.5)


def _read_config(format: str, view: View, folder: Path) -> tuple[ViViTConfig, frozenset[str]]:
    """Find out which model the weights of a ViViT belong to; see `WeightFormat.read_config`."""
    sizes = _sizes(view)
    stated = _settings(folder) if format.startswith("transformers") else None
    if stated:
        sizes |= {
            "num_frames": stated.num_frames,
            "image_size_px": side_of(stated.image_size),
            "layer_norm_eps": stated.layer_norm_eps,
            "activation": ACTIVATIONS[stated.hidden_act],
        }
    num_heads = stated.num_attention_heads if stated else _num_heads(view)
    colours = _colours(folder) if stated else {}
    num_classes = (view.shape(f"heads.{HEAD}.weight") or (0,))[0]
    labels = label_names(stated.id2label or {}) if stated else None
    labels = labels if labels and len(labels) == num_classes else None
    config = ViViTConfig(
        **sizes | colours,
        num_heads=num_heads or ANY_NUM_HEADS,
        heads={HEAD: labels or class_names(num_classes)} if num_classes else {},
    )
    found = {
        "num_heads": num_heads,
        "num_frames": stated or config.attention == "factorised_encoder",
        "mean": colours,
        "std": colours,
        "heads": labels or not num_classes,
    }
    return config, frozenset(name for name, value in found.items() if not value)


def _sizes(view: View) -> dict[str, Any]:
    """Return what the shapes of the tensors reveal, and assume for the rest what all published models have."""
    kernel = view.shape("patch_embed.proj.weight") or ()
    hidden = view.shape("blocks.0.mlp.fc1.weight") or ()
    places = view.shape("pos_embed") or ()
    if len(kernel) != 5 or len(hidden) != 2 or len(places) != 3:
        raise CoverError(f"patch_embed.proj.weight is {list(kernel) or 'absent'}, mlp.fc1.weight {list(hidden)}")
    attention = _attention(view)
    has_token = attention in ("joint", "factorised_encoder")
    rows, side = _grid(places[1] - has_token, USUAL_PX // kernel[3])
    if times := view.shape("temporal_pos_embed"):
        rows, side = times[1] - 1, isqrt(places[1] - 1)
    return {
        "attention": attention,
        "depth": _count(view, "blocks"),
        "temporal_depth": _count(view, "temporal_blocks") or TEMPORAL_DEPTH,
        "width": kernel[0],
        "mlp_width": hidden[0],
        "tubelet_size": kernel[2],
        "patch_size_px": kernel[3],
        "num_frames": rows * kernel[2],
        "image_size_px": side * kernel[3],
        "activation": "gelu_tanh",
    }


def _attention(view: View) -> Attention:
    """Tell the four models apart. Models 1 without a class token exist in scenic, but none is published."""
    if view.shape("temporal_pos_embed"):
        return "factorised_encoder"
    if view.shape("blocks.0.temporal_norm1.weight"):
        return "factorised_attention"
    return "joint" if view.shape("cls_token") else "factorised_heads"


def _count(view: View, blocks: str) -> int:
    return next(index for index in count() if not view.shape(f"{blocks}.{index}.norm1.weight"))


def _grid(num_places: int, usual_side: int) -> tuple[int, int]:
    """Return the rows in time, and the patches along a side, of positions that do not state them.

    Several grids have as many places. Frames of the usual size come first, then the rows of published models.

    >>> _grid(8 * 14**2, 14), _grid(16 * 20**2, 14)
    ((8, 14), (16, 20))

    Args:
        num_places: The positions of a clip.
        usual_side: The patches along a side of a usual frame.
    """
    for rows in (num_places // max(usual_side, 1) ** 2 or 1, PUBLISHED_ROWS, *range(1, MAX_ROWS)):
        side = isqrt(num_places // rows)
        if side and rows * side**2 == num_places:
            return rows, side
    raise CoverError(f"pos_embed has {num_places} places")


def _num_heads(view: View) -> int | None:
    """Return the heads that the kernels of Flax state."""
    query = view.parts("blocks.0.attn.qkv.weight")
    shape = view.file.shapes[query[0]] if query else ()
    return shape[1] if len(shape) == 3 else None


def _settings(folder: Path) -> _Settings | None:
    values = read_object(folder / CONFIG_FILE)
    return check_settings(_Settings, values, folder / CONFIG_FILE, REMEDY) if "model_type" in values else None


def _colours(folder: Path) -> dict[str, Colours]:
    """Read the normalisation of VivitImageProcessor, which first maps pixels to -1..1, as mean and std of 0..1."""
    values = read_object(folder / PREPROCESSOR_FILE)
    if not values:
        return {}
    stated = check_settings(_Processor, values, folder / PREPROCESSOR_FILE, REMEDY)
    means, stds = (stated.image_mean, stated.image_std) if stated.do_normalize else ((0.0,) * 3, (1.0,) * 3)
    scale = 255 * stated.rescale_factor
    red, green, blue = ((stated.offset + mean) / scale for mean in means)
    std_red, std_green, std_blue = (std / scale for std in stds)
    return {"mean": (red, green, blue), "std": (std_red, std_green, std_blue)}


def _has_tubelets(view: View, container: str) -> bool:
    part = view.parts("patch_embed.proj.weight")
    return bool(part) and len(view.file.shapes[part[0]]) == 5


def transformers_names(name: str) -> list[str]:
    """Return the names of a tensor in transformers' VivitForVideoClassification; three for `attn.qkv`.

    >>> transformers_names("blocks.0.mlp.fc1.bias")
    ['vivit.encoder.layer.0.intermediate.dense.bias']

    Args:
        name: Our name of the tensor, with HEAD in place of the dataset.
    """
    theirs = TRANSFORMERS.theirs(name)
    return [part if part.startswith("classifier.") else f"vivit.{part}" for part in theirs]


FORMATS = (
    WeightFormat("vivit", "the official ViViT (scenic)", SCENIC, partial(_read_config, "vivit"), _has_tubelets),
    WeightFormat(
        "transformers-vivit",
        "transformers' ViViT",
        (TRANSFORMERS, TRANSFORMERS_IN_MEMORY),
        partial(_read_config, "transformers-vivit"),
        _has_tubelets,
    ),
)
