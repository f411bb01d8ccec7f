"""The weight formats that a TimeSformer can load: how other code bases name and lay out a TimeSformer or a plain ViT.

Our names are those of the published TimeSformer, which come from timm. Only heads differ: "heads.NAME.weight" here,
"head.weight" there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import Tensor

from cover.models.checkpoints.naming import HEAD, Naming
from cover.models.checkpoints.tensor_view import View, WeightFormat
from cover.models.timesformer.architecture import read_architecture

ANCHOR, INPUT = "blocks.0.attn.qkv.weight", ("patch_embed.proj.weight", "pos_embed")


def _channels_first(name: str, part: Tensor) -> Tensor:
    """Convert a tensor of the JAX ViT to torch's layout."""
    if name == "patch_embed.proj.weight":  # patch rows, patch columns, in, out
        return part.permute(3, 2, 0, 1)
    if name.endswith("attn.qkv.weight"):  # in, heads, channels of a head
        return part.flatten(1).mT
    if name.endswith("attn.proj.weight"):  # heads, channels of a head, out
        return part.flatten(0, 1).mT
    if name.endswith("attn.qkv.bias"):
        return part.flatten()
    return part.T if part.ndim == 2 else part


def _with_axes(name: str, part: Tensor) -> Tensor:
    """Give CLIP's class token and position embedding the axes of ours."""
    return part.reshape(1, -1, part.shape[-1]) if name in ("cls_token", "pos_embed") else part


def _projections(module: str) -> str:
    return " ".join(f"{module}.{name}_proj" for name in "qkv")


_IDLE = r"mask_token|decoder\w*|n_averaged|logit_(scale|bias)"
"""Parts that only pre-training uses: of masked autoencoders, averages and contrastive losses."""

PATCH_BIAS = "patch_embed.proj.bias"
"""What CLIP has none of."""
PUBLISHED = Naming(
    anchor=ANCHOR,
    input=INPUT,
    modules={f"heads.{HEAD}": "head"},
    scales={"attn.proj": "ls1.gamma", "mlp.fc2": "ls2.gamma"},
    zeros={PATCH_BIAS},
    idle=rf"head|pre_logits|{_IDLE}",
)

_TRANSFORMERS = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "time_embed": "embeddings.time_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
    f"heads.{HEAD}": "classifier",
}
_TRANSFORMERS_BLOCK = {
    "norm1": "layernorm_before",
    "attn.qkv": "attention.attention.qkv",
    "attn.proj": "attention.output.dense",
    "temporal_norm1": "temporal_layernorm",
    "temporal_attn.qkv": "temporal_attention.attention.qkv",
    "temporal_attn.proj": "temporal_attention.output.dense",
    "temporal_fc": "temporal_dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_TRANSFORMERS_IDLE = rf"classifier|pooler|embeddings\.mask_token|{_IDLE}"
TRANSFORMERS_TIMESFORMER = Naming(
    anchor=ANCHOR,
    input=INPUT,
    modules=_TRANSFORMERS,
    block_modules=_TRANSFORMERS_BLOCK,
    block="encoder.layer.{}.",
    tidy={r"(?<![^.])timesformer\.": ""},
    idle=_TRANSFORMERS_IDLE,
)
_QKV = " ".join(f"attention.attention.{name}" for name in ("query", "key", "value"))
TRANSFORMERS_VIT = Naming(
    anchor=ANCHOR,
    input=INPUT,
    modules=_TRANSFORMERS,
    block_modules=_TRANSFORMERS_BLOCK | {"attn.qkv": _QKV},
    block="encoder.layer.{}.",
    tidy={r"(?<![^.])vit\.": ""},
    idle=_TRANSFORMERS_IDLE,
)
# Since version 5, transformers has other names in memory than in its own files. torch.save writes the former.
TRANSFORMERS_VIT_IN_MEMORY = Naming(
    anchor=ANCHOR,
    input=INPUT,
    modules=_TRANSFORMERS,
    block_modules={
        "norm1": "layernorm_before",
        "attn.qkv": _projections("attention"),
        "attn.proj": "attention.o_proj",
        "norm2": "layernorm_after",
    },
    block="layers.{}.",
    tidy={r"(?<![^.])vit\.": ""},
    idle=_TRANSFORMERS_IDLE,
)

JAX_VIT = Naming(
    anchor=ANCHOR,
    input=INPUT,
    modules={
        "cls_token": "cls",
        "pos_embed": "Transformer/posembed_input/pos_embedding",
        "patch_embed.proj": "embedding",
        "norm": "Transformer/encoder_norm",
        f"heads.{HEAD}": "head",
    },
    block_modules={
        "norm1": "LayerNorm_0",
        "attn.qkv": " ".join(f"attention/{name}" for name in ("query", "key", "value")),
        "attn.proj": "attention/out",
        "norm2": "LayerNorm_2",
        "mlp.fc1": "mlp/Dense_0",
        "mlp.fc2": "mlp/Dense_1",
    },
    block="Transformer/encoderblock_{}/",
    tidy={
        r"/(kernel|scale)$": ".weight",
        r"/bias$": ".bias",
        # One release of the code numbers all submodules 0, 1, 2, 3 in order of use, another numbers each kind.
        r"/MultiHeadDotProductAttention_[01]/": "/attention/",
        r"/MlpBlock_[03]/": "/mlp/",
        r"/LayerNorm_1\.": "/LayerNorm_2.",
    },
    layout=_channels_first,
    idle=r"head|pre_logits",
)


_DINOV2_BLOCK = {"attn.qkv": _QKV, "attn.proj": "attention.output.dense"}
TRANSFORMERS_DINOV2 = Naming(
    anchor=ANCHOR,
    input=INPUT,
    modules={ours: theirs for ours, theirs in _TRANSFORMERS.items() if theirs != "classifier"},
    block_modules=_DINOV2_BLOCK,
    block="encoder.layer.{}.",
    tidy={r"(?<![^.])dinov2\.": ""},
    scales={"attn.proj": "layer_scale1.lambda1", "mlp.fc2": "layer_scale2.lambda1"},
    idle=_TRANSFORMERS_IDLE,  # the classifier reads the mean patch beside the class token
)
TRANSFORMERS_DINOV2_IN_MEMORY = replace(
    TRANSFORMERS_DINOV2,
    block_modules={"attn.qkv": _projections("attention"), "attn.proj": "attention.o_proj"},
)
CLIP = Naming(
    anchor=ANCHOR,
    input=INPUT,
    modules={
        "cls_token": "class_embedding",
        "pos_embed": "positional_embedding",
        "patch_embed.proj": "conv1",
        "norm_pre": "ln_pre",
        "norm": "ln_post",
    },
    block_modules={
        "norm1": "ln_1",
        "attn.qkv": "attn.in_proj",
        "attn.proj": "attn.out_proj",
        "norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    },
    block="transformer.resblocks.{}.",
    tidy={r"\.in_proj_(weight|bias)$": r".in_proj.\1"},
    scales={"attn.proj": "ls_1.gamma", "mlp.fc2": "ls_2.gamma"},
    zeros={PATCH_BIAS},
    layout=_with_axes,
    idle=rf"proj|{_IDLE}",
)
TRANSFORMERS_CLIP = Naming(
    anchor=ANCHOR,
    input=INPUT,
    modules={
        "cls_token": "embeddings.class_embedding",
        "pos_embed": "embeddings.position_embedding.weight",
        "patch_embed.proj": "embeddings.patch_embedding",
        "norm_pre": "pre_layrnorm",  # their spelling
        "norm": "post_layernorm",
    },
    block_modules={
        "norm1": "layer_norm1",
        "attn.qkv": _projections("self_attn"),
        "attn.proj": "self_attn.out_proj",
        "norm2": "layer_norm2",
    },
    block="encoder.layers.{}.",
    zeros={PATCH_BIAS},
    layout=_with_axes,
    idle=rf"classifier|visual_projection|embeddings\.position_ids|{_IDLE}",  # the classifier reads the mean patch
)


def transformers_names(name: str) -> list[str]:
    """Return the name of a tensor in transformers' TimesformerForVideoClassification.

    >>> transformers_names("blocks.0.attn.qkv.bias")
    ['timesformer.encoder.layer.0.attention.attention.qkv.bias']

    Args:
        name: Our name of the tensor, with HEAD in place of the dataset.
    """
    theirs = TRANSFORMERS_TIMESFORMER.theirs(name)
    return [part if part.startswith("classifier.") else f"timesformer.{part}" for part in theirs]


def _is_timesformer(view: View, container: str) -> bool:
    """Tell the published TimeSformer from a ViT of timm, which has the same names."""
    return container == "model_state" or any("time_embed" in name or "temporal" in name for name in view.names)


def _has_layer_scale(view: View, container: str) -> bool:
    return not _is_timesformer(view, container) and view.names.keys() >= {
        view.naming.scale_of("blocks.0.attn.proj.bias")
    }


def _is_vit(view: View, container: str) -> bool:
    has_class_token = "cls_token" in view.names or "attn_pool.latent" not in view.names  # SigLIP has none
    return has_class_token and not _is_timesformer(view, container) and not _has_layer_scale(view, container)


def _has_norms(view: View, container: str) -> bool:
    """Tell transformers' ViT from its DINOv2 and its ViViT, which name attention in the same way."""
    return bool(view.parts("blocks.0.norm1.weight")) and _has_no_tubelets(view, container)


def _has_class_token(view: View, container: str) -> bool:
    return bool(view.parts("cls_token"))


def _has_no_tubelets(view: View, container: str) -> bool:
    """Tell a ViT of frames from a ViViT, which has the same names."""
    part = view.parts("patch_embed.proj.weight")
    return not part or len(view.file.shapes[part[0]]) < 5


def _format(
    name: str, origin: str, *namings: Naming, claims: Callable[[View, str], bool] = _has_no_tubelets
) -> WeightFormat:
    return WeightFormat(name, origin, namings, partial(read_architecture, name), claims)


FORMATS = (
    _format("timesformer", "the published TimeSformer", PUBLISHED, claims=_is_timesformer),
    _format("timm-vit", "timm's ViT", PUBLISHED, claims=_is_vit),
    _format("transformers-timesformer", "transformers' TimeSformer", TRANSFORMERS_TIMESFORMER),
    _format("transformers-vit", "transformers' ViT", TRANSFORMERS_VIT, TRANSFORMERS_VIT_IN_MEMORY, claims=_has_norms),
    _format("dinov2", "DINOv2", PUBLISHED, claims=_has_layer_scale),
    _format(
        "transformers-dinov2",
        "transformers' DINOv2",
        TRANSFORMERS_DINOV2,
        TRANSFORMERS_DINOV2_IN_MEMORY,
        claims=_has_layer_scale,
    ),
    _format("clip", "CLIP and OpenCLIP", CLIP, claims=_has_class_token),
    _format("transformers-clip", "transformers' CLIP", TRANSFORMERS_CLIP, claims=_has_class_token),
    _format("jax-vit", "the original ViT (JAX)", JAX_VIT),
)
