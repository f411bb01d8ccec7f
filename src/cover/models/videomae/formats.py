"""The weights that a VideoMAE can load: how other code bases name and lay out a VideoMAE, or a SigLIP.

Our names are those of the official code. Only heads differ: "heads.NAME.weight" here, "head.weight" there.

The image model of SigLIP is a VideoMAE of single images, apart from its positions: its blocks are those of a ViT, and
it has no class token. A model with longer tubelets repeats its patch kernel (`VideoMAE.resized`).
"""

from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from cover.config.layers import Section
from cover.core.run_files import CONFIG_FILE
from cover.errors import CoverError
from cover.models.checkpoints.config_files import (
    ACTIVATIONS,
    HiddenAct,
    Size,
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
from cover.models.videomae.config import VideoMAEConfig

ANCHOR, INPUT = "blocks.0.attn.qkv.weight", ("patch_embed.proj.weight",)
REMEDY = "use weights of a VideoMAE"
ANY_NUM_HEADS = 1
"""A placeholder for a number of attention heads that the source does not state. It divides every width."""
SIGLIP_MEAN_STD = (0.5, 0.5, 0.5)
TRANSFORMERS_EPS, TRANSFORMERS_FC_NORM_EPS = 1e-12, 1e-5
"""The epsilons of transformers, if its config.json does not state the first. It never states the second."""

OFFICIAL = Naming(
    anchor=ANCHOR,
    input=INPUT,
    modules={f"heads.{HEAD}": "head"},
    idle=r"head|norm|mask_token",  # a pre-trained encoder has a last norm, which fine-tuning replaces
)
_TRANSFORMERS_BLOCK = {
    "norm1": "layernorm_before",
    "attn.qkv": " ".join(f"attention.attention.{name}" for name in ("query", "key", "value")),
    "attn.q_bias": "attention.attention.q_bias",
    "attn.v_bias": "attention.attention.v_bias",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
TRANSFORMERS = Naming(
    anchor=ANCHOR,
    input=INPUT,
    modules={"patch_embed.proj": "embeddings.patch_embeddings.projection", f"heads.{HEAD}": "classifier"},
    block_modules=_TRANSFORMERS_BLOCK,
    block="encoder.layer.{}.",
    tidy={
        r"(?<![^.])videomae\.": "",
        # In memory, and in files of some versions, the two biases belong to layers.
        r"attention\.attention\.query\.bias$": "attention.attention.q_bias",
        r"attention\.attention\.value\.bias$": "attention.attention.v_bias",
    },
    idle=r"classifier|layernorm|mask_token|decoder|encoder_to_decoder|position_embeddings",
)


def _with_time(name: str, part: Tensor) -> Tensor:
    """Give the patch kernel of an image model a dimension of time."""
    return part[:, :, None] if name == "patch_embed.proj.weight" else part


def _with_time_and_parts(name: str, part: Tensor) -> Tensor:
    """Do the same, and take the biases of queries and values from that of queries, keys and values."""
    if name.endswith((".q_bias", ".v_bias")):
        return part.chunk(3)[0 if name.endswith(".q_bias") else 2]
    return _with_time(name, part)


# What pools the tokens, and the bias of keys, which softmax cancels, have no use.
TRANSFORMERS_SIGLIP = Naming(
    anchor=ANCHOR,
    input=INPUT,
    modules={"patch_embed.proj": "embeddings.patch_embedding", "fc_norm": "post_layernorm"},
    block_modules={
        "norm1": "layer_norm1",
        "attn.qkv": " ".join(f"self_attn.{name}_proj" for name in "qkv"),
        "attn.q_bias": "self_attn.q_proj.bias",
        "attn.v_bias": "self_attn.v_proj.bias",
        "attn.proj": "self_attn.out_proj",
        "norm2": "layer_norm2",
    },
    block="encoder.layers.{}.",
    layout=_with_time,
    idle=r"head|classifier|embeddings\.position_\w+(\.weight)?|encoder\.layers\.\d+\.self_attn\.k_proj\.bias",
)
TIMM_SIGLIP = Naming(
    anchor=ANCHOR,
    input=INPUT,
    modules={"fc_norm": "norm"},
    block_modules={"attn.q_bias": "attn.qkv.bias", "attn.v_bias": "attn.qkv.bias"},
    layout=_with_time_and_parts,
    idle=r"head|attn_pool|pos_embed",
)


class _Settings(Section, extra="ignore"):
    """config.json of transformers."""

    model_type: Literal["videomae"]
    num_attention_heads: Size | None = None
    num_channels: Literal[3] = 3
    num_frames: Size = 16
    image_size: Square = 224
    hidden_act: HiddenAct = "gelu"
    qkv_bias: Literal[True] = True
    qv_bias: Literal[True] = True
    use_mean_pooling: bool = True
    layer_norm_eps: Annotated[float, Field(gt=0, le=1)] | None = None
    quantization_config: None = None
    id2label: dict[str, str | int] | None = None


class _Siglip(Section, extra="ignore"):
    """config.json of transformers' SigLIP, or the part of it that describes the image model, with its defaults."""

    num_attention_heads: Size = 12
    num_channels: Literal[3] = 3
    hidden_act: HiddenAct = "gelu_pytorch_tanh"
    layer_norm_eps: Annotated[float, Field(gt=0, le=1)] = 1e-6
    quantization_config: None = None


def _read_siglip(view: View, folder: Path) -> tuple[VideoMAEConfig, frozenset[str]]:
    """Find out which model the weights of a SigLIP belong to; see `WeightFormat.read_config`.

    They are of tubelets of any length. timm does not state its GELU beside its weights.
    """
    values = read_object(folder / CONFIG_FILE) if view.naming is TRANSFORMERS_SIGLIP else {}
    stated = None
    if "model_type" in values:
        if values["model_type"] not in ("siglip", "siglip_vision_model"):
            raise CoverError(f"config.json belongs to a {str(values['model_type'])[:100]}")
        stated = check_settings(_Siglip, values.get("vision_config", values), folder / CONFIG_FILE, REMEDY)
    colours = read_colours(folder, REMEDY) if stated else (None, None)
    sizes = _sizes(view)
    eps = stated.layer_norm_eps if stated else 1e-6
    config = VideoMAEConfig(
        **sizes,
        num_heads=stated.num_attention_heads if stated else ANY_NUM_HEADS,
        num_frames=1,
        image_size_px=14 * sizes["patch_size_px"],
        mean=colours[0] or SIGLIP_MEAN_STD,
        std=colours[1] or SIGLIP_MEAN_STD,
        layer_norm_eps=eps,
        fc_norm_eps=eps,
        activation=ACTIVATIONS[stated.hidden_act] if stated else None,
    )
    found = {"num_heads": stated, "activation": stated, "mean": colours[0], "std": colours[1], "tubelet_size": None}
    return config, frozenset(name for name, value in found.items() if not value)


def _is_siglip(view: View, container: str) -> bool:
    """Tell the image model of transformers' SigLIP from CLIP's, which has a class token, and from text models."""
    return bool(view.parts("patch_embed.proj.bias")) and "embeddings.class_embedding" not in view.names


def _is_timm_siglip(view: View, container: str) -> bool:
    return "attn_pool.latent" in view.names and "cls_token" not in view.names


def _read_config(format: str, view: View, folder: Path) -> tuple[VideoMAEConfig, frozenset[str]]:
    """Find out which model the weights of a VideoMAE belong to; see `WeightFormat.read_config`.

    Official files state neither attention heads nor the size of the input. Positions do not depend on the latter.
    """
    sizes = _sizes(view)
    stated = _settings(folder) if format.startswith("transformers") else None
    colours = read_colours(folder, REMEDY) if stated else (None, None)
    num_classes = (view.shape(f"heads.{HEAD}.weight") or (0,))[0]
    fc_norm = bool(view.shape("fc_norm.weight"))
    if num_classes and not (fc_norm and (stated is None or stated.use_mean_pooling)):
        raise CoverError("its classifier reads the first token, not the mean token")
    labels = label_names(stated.id2label or {}) if stated else None
    labels = labels if labels and len(labels) == num_classes else None
    config = VideoMAEConfig(
        **sizes,
        num_heads=(stated and stated.num_attention_heads) or ANY_NUM_HEADS,
        num_frames=stated.num_frames if stated else 8 * sizes["tubelet_size"],
        image_size_px=side_of(stated.image_size) if stated else 14 * sizes["patch_size_px"],
        heads={HEAD: labels or class_names(num_classes)} if num_classes else {},
        mean=colours[0] or IMAGENET_MEAN,
        std=colours[1] or IMAGENET_STD,
        layer_norm_eps=(stated.layer_norm_eps or TRANSFORMERS_EPS) if stated else 1e-6,
        fc_norm_eps=TRANSFORMERS_FC_NORM_EPS if stated else 1e-6,
        fc_norm=fc_norm,
        activation=ACTIVATIONS[stated.hidden_act] if stated else "gelu",
    )
    found = {
        "num_heads": stated and stated.num_attention_heads,
        "mean": colours[0],
        "std": colours[1],
        "heads": labels or not num_classes,
    }
    return config, frozenset(name for name, value in found.items() if not value)


def _sizes(view: View) -> dict[str, Any]:
    """Return the sizes that the shapes of the tensors reveal."""
    kernel = view.shape("patch_embed.proj.weight") or ()
    hidden = view.shape("blocks.0.mlp.fc1.weight") or ()
    if len(kernel) != 5 or len(hidden) != 2:
        raise CoverError(f"patch_embed.proj.weight is {list(kernel) or 'absent'}, mlp.fc1.weight {list(hidden)}")
    return {
        "depth": next(index for index in count() if not view.shape(f"blocks.{index}.norm1.weight")),
        "width": kernel[0],
        "mlp_width": hidden[0],
        "tubelet_size": kernel[2],
        "patch_size_px": kernel[3],
    }


def _settings(folder: Path) -> _Settings | None:
    values = read_object(folder / CONFIG_FILE)
    return check_settings(_Settings, values, folder / CONFIG_FILE, REMEDY) if "model_type" in values else None


def _has_tubelets(view: View, container: str) -> bool:
    """Tell a VideoMAE from image ViTs, and from MViTs, ViViTs and V-JEPAs, which have the same names and others."""
    part = view.parts("patch_embed.proj.weight")
    others = view.parts("blocks.0.attn.qkv.bias") or any(name.endswith("cls_token") for name in view.names)
    return bool(part) and len(view.file.shapes[part[0]]) == 5 and not others


def transformers_names(name: str) -> list[str]:
    """Return the names of a tensor in transformers' VideoMAEForVideoClassification; three for `attn.qkv.weight`.

    >>> transformers_names("blocks.0.mlp.fc1.bias")
    ['videomae.encoder.layer.0.intermediate.dense.bias']

    Args:
        name: Our name of the tensor, with HEAD in place of the dataset.
    """
    theirs = TRANSFORMERS.theirs(name)
    return [part if part.startswith(("classifier.", "fc_norm.")) else f"videomae.{part}" for part in theirs]


FORMATS = (
    WeightFormat("transformers-siglip", "transformers' SigLIP", (TRANSFORMERS_SIGLIP,), _read_siglip, _is_siglip),
    WeightFormat("timm-siglip", "timm's SigLIP", (TIMM_SIGLIP,), _read_siglip, _is_timm_siglip),
    WeightFormat("videomae", "the official VideoMAE", (OFFICIAL,), partial(_read_config, "videomae"), _has_tubelets),
    WeightFormat(
        "transformers-videomae",
        "transformers' VideoMAE",
        (TRANSFORMERS,),
        partial(_read_config, "transformers-videomae"),
        _has_tubelets,
    ),
)
