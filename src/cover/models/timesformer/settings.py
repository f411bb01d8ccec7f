"""The settings that transformers, timm and OpenCLIP save beside weights: which we use, and which values we refuse.

Every setting that changes what a model computes is a field below. A value that TimeSformer cannot express is an error.
Settings that change only training, such as dropout, are ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from cover.config.layers import Section
from cover.core.run_files import CONFIG_FILE
from cover.errors import CheckpointError
from cover.models.checkpoints.config_files import (
    ACTIVATIONS,
    Colours,
    HiddenAct,
    Size,
    Square,
    check_settings,
    label_names,
    read_colours,
    read_object,
)
from cover.models.config import Activation
from cover.models.timesformer.config import Attention

REMEDY = "use weights of a plain ViT or TimeSformer"
OPEN_CLIP_FILE = "open_clip_config.json"
TIMM_VIT = re.compile(
    r"(?:vit|deit)_(?P<size>tiny|small|base|large|huge)_patch\d+_"
    r"(?:\d+(?:_in21k|_dino|_sam|_mae)?|(?P<clip>clip_)(?P<quick>quickgelu_)?\d+|dinov2)(?:\..*)?"
)
"""timm's names of plain ViTs, DINOv2s and image towers of CLIP. Others have activations, norms or poolings that the
tensors do not reveal."""
TIMM_SIZES = {
    "tiny": (12, 192, 3),
    "small": (12, 384, 6),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
    "huge": (32, 1280, 16),
}
"""{size in the name: (depth, width, attention heads)} of timm's plain ViTs."""


@dataclass(frozen=True)
class Settings:
    """The settings that a folder states for its weights, None if it does not state them.

    Attributes:
        path: The config.json.
        depth: Number of blocks. If it differs from the tensors', the settings belong to other weights.
        width: Size of a token. The same applies.
        num_heads: Attention heads per block.
        num_frames: Frames of a clip.
        attention: The kind of attention. The same as for depth applies.
        layer_norm_eps: Added to the variance in layer norms.
        norm_pre: Whether there is a norm before the blocks. The same as for depth applies.
        labels: Class names, in the order of the classifier's rows.
        activation: The GELU.
        mean: Mean of the input normalisation, for RGB in 0..1.
        std: Standard deviation of the input normalisation.
    """

    path: Path
    depth: int | None = None
    width: int | None = None
    num_heads: int | None = None
    num_frames: int | None = None
    attention: Attention | None = None
    layer_norm_eps: float | None = None
    activation: Activation | None = None
    norm_pre: bool | None = None
    labels: tuple[str, ...] | None = None
    mean: Colours | None = None
    std: Colours | None = None


Epsilon = Annotated[float, Field(gt=0, le=1)]


class _Transformers(Section, extra="ignore"):
    """config.json of transformers."""

    model_type: Literal["vit", "vit_mae", "vit_msn", "timesformer"]
    num_hidden_layers: Size | None = None
    hidden_size: Size | None = None
    num_attention_heads: Size | None = None
    num_frames: Size | None = None
    num_channels: Literal[3] = 3
    image_size: Square | None = None
    attention_type: Literal["divided_space_time", "joint_space_time", "space_only"] | None = None
    hidden_act: HiddenAct = "gelu"
    qkv_bias: Literal[True] = True
    layer_norm_eps: Epsilon | None = None
    quantization_config: None = None
    id2label: dict[str, str | int] | None = None


class _Dinov2(Section, extra="ignore"):
    """config.json of transformers' DINOv2, with its defaults."""

    model_type: Literal["dinov2"]
    num_hidden_layers: Size = 12
    hidden_size: Size = 768
    num_attention_heads: Size = 12
    num_channels: Literal[3] = 3
    image_size: Square | None = None
    hidden_act: HiddenAct = "gelu"
    qkv_bias: Literal[True] = True
    use_swiglu_ffn: Literal[False] = False
    layer_norm_eps: Epsilon = 1e-6
    quantization_config: None = None


class _Clip(Section, extra="ignore"):
    """config.json of transformers' CLIP, or the part of it that describes the image model, with its defaults."""

    num_hidden_layers: Size = 12
    hidden_size: Size = 768
    num_attention_heads: Size = 12
    num_channels: Literal[3] = 3
    image_size: Square | None = None
    hidden_act: HiddenAct = "quick_gelu"
    layer_norm_eps: Epsilon = 1e-5
    quantization_config: None = None


class _OpenClipVision(Section, extra="ignore"):
    width: Size = 768
    layers: Size = 12
    head_width: Size = 64
    pool_type: Literal["tok"] = "tok"
    pos_embed_type: Literal["learnable"] = "learnable"
    global_average_pool: Literal[False] = False
    attentional_pool: Literal[False] = False
    no_ln_pre: Literal[False] = False
    norm_kwargs: None = None
    act_kwargs: None = None


class _OpenClipModel(Section, extra="ignore"):
    quick_gelu: bool = False
    vision_cfg: _OpenClipVision


class _OpenClipInput(Section, extra="ignore"):
    mean: Colours | None = None
    std: Colours | None = None


class _OpenClip(Section, extra="ignore"):
    """open_clip_config.json of OpenCLIP, with its defaults."""

    model_cfg: _OpenClipModel
    preprocess_cfg: _OpenClipInput = _OpenClipInput()


class _TimmInput(Section, extra="ignore"):
    mean: Colours | None = None
    std: Colours | None = None
    input_size: Square | None = None


class _TimmArguments(Section):
    """Arguments of timm's VisionTransformer that we use, that shapes reveal, or that change only training."""

    num_heads: Size | None = None
    depth: Size | None = None
    embed_dim: Size | None = None
    global_pool: Literal["token", ""] = "token"
    img_size: Square | None = None
    patch_size: Square | None = None
    num_classes: Any = None
    in_chans: Literal[3] = 3
    mlp_ratio: Any = None
    dynamic_img_size: Any = None
    drop_rate: Any = None
    pos_drop_rate: Any = None
    patch_drop_rate: Any = None
    proj_drop_rate: Any = None
    attn_drop_rate: Any = None
    drop_path_rate: Any = None


class _Timm(_TimmInput, extra="ignore"):
    """config.json of timm. Older ones have the values of pretrained_cfg at the top level."""

    architecture: str | None = None
    global_pool: Literal["token", ""] | None = None
    label_names: tuple[str, ...] | None = None
    model_args: _TimmArguments | None = None
    pretrained_cfg: _TimmInput | None = None


def read_settings(format: str, folder: Path) -> Settings:
    """Read the settings beside weights. Settings of another code base are ignored.

    Args:
        format: The name of the weights' format.
        folder: The folder of the weights.

    Returns:
        The settings, with None for all that are not stated.

    Raises:
        CheckpointError: A file cannot be read, a value is impossible, or the settings are those of a model that is
            neither a plain ViT nor a TimeSformer.
    """
    if format.startswith("transformers"):
        return _transformers(format, folder)
    if format == "clip":
        return _open_clip(folder / OPEN_CLIP_FILE)
    values = read_object(folder / CONFIG_FILE) if format in ("timm-vit", "dinov2") else {}
    is_timm = values.keys() & {"architecture", "model_args", "pretrained_cfg"}
    return (
        _timm(check_settings(_Timm, values, folder / CONFIG_FILE, REMEDY), folder / CONFIG_FILE)
        if is_timm
        else Settings(folder / CONFIG_FILE)
    )


def _transformers(format: str, folder: Path) -> Settings:
    values = read_object(folder / CONFIG_FILE)
    mean, std = read_colours(folder, REMEDY)
    if "model_type" not in values:
        return Settings(folder / CONFIG_FILE, mean=mean, std=std)
    if format in ("transformers-clip", "transformers-dinov2"):
        return _image_model(format, values, folder / CONFIG_FILE, mean, std)
    stated = check_settings(_Transformers, values, folder / CONFIG_FILE, REMEDY)
    if (stated.model_type == "timesformer") != (format == "transformers-timesformer"):
        raise CheckpointError(
            f"{folder / CONFIG_FILE} belongs to a {stated.model_type}, but the weights beside it look like {format}; "
            "give them the config.json that they came with"
        )
    attention: dict[str | None, Attention] = {"divided_space_time": "divided", "joint_space_time": "joint"}
    return Settings(
        folder / CONFIG_FILE,
        depth=stated.num_hidden_layers,
        width=stated.hidden_size,
        num_heads=stated.num_attention_heads,
        num_frames=stated.num_frames,
        attention=attention.get(stated.attention_type, "space_only") if stated.attention_type else None,
        # The default of transformers if the file does not state it.
        layer_norm_eps=stated.layer_norm_eps or (1e-6 if stated.model_type in ("timesformer", "vit_msn") else 1e-12),
        activation=ACTIVATIONS[stated.hidden_act],
        labels=label_names(stated.id2label or {}),
        mean=mean,
        std=std,
    )


def _image_model(
    format: str, values: dict[str, Any], path: Path, mean: Colours | None, std: Colours | None
) -> Settings:
    """Return the settings of transformers' CLIP or DINOv2. Their classifiers do not read the class token alone."""
    stated: _Clip | _Dinov2
    if format == "transformers-dinov2":
        stated = check_settings(_Dinov2, values, path, REMEDY)
    elif values["model_type"] in ("clip", "clip_vision_model"):
        stated = check_settings(_Clip, values.get("vision_config", values), path, REMEDY)
    else:
        raise CheckpointError(f"{path} belongs to a {str(values['model_type'])[:100]}, not to a CLIP; {REMEDY}")
    return Settings(
        path,
        depth=stated.num_hidden_layers,
        width=stated.hidden_size,
        num_heads=stated.num_attention_heads,
        layer_norm_eps=stated.layer_norm_eps,
        activation=ACTIVATIONS[stated.hidden_act],
        norm_pre=isinstance(stated, _Clip),
        mean=mean,
        std=std,
    )


def _open_clip(path: Path) -> Settings:
    values = read_object(path)
    if not values:
        return Settings(path)
    stated = check_settings(_OpenClip, values, path, REMEDY)
    vision = stated.model_cfg.vision_cfg
    return Settings(
        path,
        depth=vision.layers,
        width=vision.width,
        num_heads=vision.width // vision.head_width,
        activation="quick_gelu" if stated.model_cfg.quick_gelu else "gelu",
        norm_pre=True,
        mean=stated.preprocess_cfg.mean,
        std=stated.preprocess_cfg.std,
    )


def _timm(stated: _Timm, path: Path) -> Settings:
    arguments = stated.model_args or _TimmArguments()
    depth, width, num_heads = arguments.depth, arguments.embed_dim, arguments.num_heads
    activation: Activation | None = None
    norm_pre = None
    if stated.architecture is not None:
        known = TIMM_VIT.fullmatch(stated.architecture)
        if not known:
            raise CheckpointError(
                f"{path}: architecture {stated.architecture[:100]!r} is not one of timm's plain ViTs, such as "
                "vit_base_patch16_224; if yours computes the same, give the weights without this file"
            )
        if num_heads is None:  # then the model has the sizes in its name
            sizes = TIMM_SIZES[known["size"]]
            depth, width, num_heads = depth or sizes[0], width or sizes[1], sizes[2]
        activation, norm_pre = "quick_gelu" if known["quick"] else "gelu", bool(known["clip"])
    described = stated.pretrained_cfg or stated
    return Settings(
        path,
        depth=depth,
        width=width,
        num_heads=num_heads,
        activation=activation,
        norm_pre=norm_pre,
        labels=stated.label_names,
        mean=described.mean,
        std=described.std,
    )
