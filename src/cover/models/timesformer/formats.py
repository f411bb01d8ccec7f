"""The weight formats that a TimeSformer can load: how other code bases name and lay out a TimeSformer or a plain ViT.

Our names are those of the published TimeSformer, which come from timm. Only heads differ: "heads.NAME.weight" here,
"head.weight" there.
"""

from __future__ import annotations

from collections.abc import Callable
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


_IDLE = r"mask_token|decoder\w*|n_averaged|logit_(scale|bias)"
"""Parts that only pre-training uses: of masked autoencoders, averages and contrastive losses."""

PUBLISHED = Naming(anchor=ANCHOR, input=INPUT, modules={f"heads.{HEAD}": "head"}, idle=rf"head|pre_logits|{_IDLE}")

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
        "attn.qkv": "attention.q_proj attention.k_proj attention.v_proj",
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


def transformers_name(name: str, head: str) -> str:
    """Return the name of a tensor in transformers' TimesformerForVideoClassification.

    >>> transformers_name("blocks.0.attn.qkv.bias", "k400")
    'timesformer.encoder.layer.0.attention.attention.qkv.bias'

    Args:
        name: Our name of the tensor.
        head: The dataset with the head that becomes the classifier.
    """
    (theirs,) = TRANSFORMERS_TIMESFORMER.theirs(name.replace(f"heads.{head}.", f"heads.{HEAD}."))
    return theirs if theirs.startswith("classifier.") else f"timesformer.{theirs}"


def _is_timesformer(view: View, container: str) -> bool:
    """Tell the published TimeSformer from a ViT of timm, which has the same names."""
    return container == "model_state" or any("time_embed" in name or "temporal" in name for name in view.names)


def _is_vit(view: View, container: str) -> bool:
    return not _is_timesformer(view, container)


def _any(view: View, container: str) -> bool:
    return True


def _format(name: str, origin: str, *namings: Naming, claims: Callable[[View, str], bool] = _any) -> WeightFormat:
    return WeightFormat(name, origin, namings, partial(read_architecture, name), claims)


FORMATS = (
    _format("timesformer", "the published TimeSformer", PUBLISHED, claims=_is_timesformer),
    _format("timm-vit", "timm's ViT", PUBLISHED, claims=_is_vit),
    _format("transformers-timesformer", "transformers' TimeSformer", TRANSFORMERS_TIMESFORMER),
    _format("transformers-vit", "transformers' ViT", TRANSFORMERS_VIT, TRANSFORMERS_VIT_IN_MEMORY),
    _format("jax-vit", "the original ViT (JAX)", JAX_VIT),
)
