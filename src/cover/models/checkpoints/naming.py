"""How other code names and lays out the tensors of a TimeSformer or ViT.

Our own names are those of the published TimeSformer, which took them from timm, but for the heads: "heads.NAME.weight"
here, "head.weight" there. Of a source with one nameless head, ours is called "head".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

HEAD = "head"
"""Name of the head of a source that does not name it."""
ANCHOR = "blocks.0.attn.qkv.weight"
"""The tensor by whose name a code base is recognised."""
WRAPPERS = re.compile(r"(?<![^./])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module|module)\.")
"""What torch.compile, FSDP, checkpointing, Lightning and DDP put into a name, anywhere in it."""


@dataclass(frozen=True)
class Naming:
    """The names of one code base.

    modules, block_modules: our modules → theirs, outside and inside the blocks, where they differ; the weights of
    several modules, separated by spaces, are joined to one of ours. block: the prefix of block i. tidy: regular
    expressions and replacements that free a file's names of what varies between files, beside WRAPPERS. channels_last:
    weights are stored as JAX does. idle: a regular expression for the names of modules that take no part in the
    features, which may be left unused; every other tensor is vital.
    """

    modules: Mapping[str, str] = field(default_factory=dict)
    block_modules: Mapping[str, str] = field(default_factory=dict)
    block: str = "blocks.{}."
    tidy: Mapping[str, str] = field(default_factory=dict)
    channels_last: bool = False
    idle: str = ""

    def tidied(self, name: str) -> str:
        """A file's name in the form that `theirs` gives."""
        name = WRAPPERS.sub("", name)
        for pattern, replacement in self.tidy.items():
            name = re.sub(pattern, replacement, name)
        return name

    def roots(self, tidied: Iterable[str]) -> list[str]:
        """What stands before the names of each model among these: "" for the names alone, "backbone.", …"""
        names = dict.fromkeys(tidied)
        first, *others = self.theirs(ANCHOR)
        roots = [name.removesuffix(first) for name in names if name.endswith(first)]
        return [
            root for root in roots if root[-1:] in ("", ".", "/") and all(root + other in names for other in others)
        ]

    def may_be_idle(self, tidied: str) -> bool:
        """Whether the tensor of this name takes no part in the features."""
        return bool(self.idle and re.match(rf"({self.idle})(\W|$)", tidied))

    def theirs(self, name: str) -> list[str]:
        """Their names of the tensors which, joined along the first dimension, are the one that we call `name`."""
        match = re.fullmatch(r"(?:blocks\.(\d+)\.)?(.+?)(\.weight|\.bias)?", name)
        assert match
        number, module, kind = match.groups(default="")
        modules, prefix = (self.block_modules, self.block.format(number)) if number else (self.modules, "")
        return [f"{prefix}{other}{kind}" for other in modules.get(module, module).split()]

    def layout(self, name: str, part: Tensor) -> Tensor:
        """One of these tensors, laid out as ours."""
        return _channels_first(name, part) if self.channels_last else part


def _channels_first(name: str, part: Tensor) -> Tensor:
    """A tensor of JAX's ViT as torch stores it."""
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
"""Parts of pre-training: of masked autoencoders, of averages, of contrastive losses."""

OURS = Naming()
PUBLISHED = Naming(modules={f"heads.{HEAD}": "head"}, idle=rf"head|pre_logits|{_IDLE}")

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
    modules=_TRANSFORMERS,
    block_modules=_TRANSFORMERS_BLOCK,
    block="encoder.layer.{}.",
    tidy={r"(?<![^.])timesformer\.": ""},
    idle=_TRANSFORMERS_IDLE,
)
_QKV = " ".join(f"attention.attention.{name}" for name in ("query", "key", "value"))
TRANSFORMERS_VIT = Naming(
    modules=_TRANSFORMERS,
    block_modules=_TRANSFORMERS_BLOCK | {"attn.qkv": _QKV},
    block="encoder.layer.{}.",
    tidy={r"(?<![^.])vit\.": ""},
    idle=_TRANSFORMERS_IDLE,
)
# Since version 5, transformers has other names in memory than in its files; torch.save writes these.
TRANSFORMERS_VIT_IN_MEMORY = Naming(
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
        # Submodules are numbered 0, 1, 2, 3 in order of use by one release of the code, by kind in another.
        r"/MultiHeadDotProductAttention_[01]/": "/attention/",
        r"/MlpBlock_[03]/": "/mlp/",
        r"/LayerNorm_1\.": "/LayerNorm_2.",
    },
    channels_last=True,
    idle=r"head|pre_logits",
)


def transformers_name(name: str, head: str) -> str:
    """The name in transformers' TimesformerForVideoClassification of one of our tensors.

    head: the dataset whose head becomes the classifier.

    >>> transformers_name("blocks.0.attn.qkv.bias", "k400")
    'timesformer.encoder.layer.0.attention.attention.qkv.bias'
    """
    (theirs,) = TRANSFORMERS_TIMESFORMER.theirs(name.replace(f"heads.{head}.", f"heads.{HEAD}."))
    return theirs if theirs.startswith("classifier.") else f"timesformer.{theirs}"
