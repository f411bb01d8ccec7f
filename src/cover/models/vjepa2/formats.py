"""The weights that a V-JEPA 2 can load: how other code bases name and lay out a V-JEPA 2.

Our names are those of the official code. Only heads differ: "heads.NAME.weight" here, "linear.weight" there. The
official code keeps encoder and probe in two files, so a probe is loaded into a model that has an encoder already.
"""

from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from cover.config.layers import Section
from cover.core.run_files import CONFIG_FILE
from cover.errors import CoverError
from cover.models.checkpoints.config_files import (
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
from cover.models.config import IMAGENET_MEAN, IMAGENET_STD, MAX_POOLER_DEPTH, PoolerConfig, class_names
from cover.models.vjepa2.config import VJEPA2Config

ANCHOR, INPUT = "blocks.0.attn.qkv.weight", ("patch_embed.proj.weight",)
QUERY = "pooler.query_tokens"
REMEDY = "use weights of a V-JEPA 2"
ANY_NUM_HEADS = 1
"""A placeholder for a number of attention heads that the source does not state. It divides every width."""
PROBE_HEADS = 16
"""Attention heads of the poolers of all official probes."""
MOST_NAMED_BLOCKS = 32
"""Blocks of a pooler whose names in transformers are known here. Published poolers have 3."""

OFFICIAL = Naming(anchor=ANCHOR, input=INPUT, idle="pos_embed")  # which rotary positions replace
OFFICIAL_2_1 = Naming(anchor=ANCHOR, input=INPUT, modules={"norm": "norms_block.3"}, idle="norms_block")
PROBE = Naming(anchor=QUERY, input=(QUERY,), modules={f"heads.{HEAD}": "linear"})


def _pooler_modules() -> dict[str, str]:
    """{our module: transformers'} of the pooler."""
    cross, theirs = "pooler.cross_attention_block", "pooler.cross_attention_layer"
    modules = {
        f"{cross}.norm1": f"{theirs}.layer_norm1",
        f"{cross}.xattn.q": f"{theirs}.cross_attn.q_proj",
        f"{cross}.xattn.kv": f"{theirs}.cross_attn.k_proj {theirs}.cross_attn.v_proj",
        f"{cross}.norm2": f"{theirs}.layer_norm2",
        f"{cross}.mlp.fc1": f"{theirs}.mlp.fc1",
        f"{cross}.mlp.fc2": f"{theirs}.mlp.fc2",
    }
    for number in range(MOST_NAMED_BLOCKS):
        block, theirs = f"pooler.blocks.{number}", f"pooler.self_attention_layers.{number}"
        modules |= {
            f"{block}.norm1": f"{theirs}.layer_norm1",
            f"{block}.attn.qkv": " ".join(f"{theirs}.self_attn.{part}_proj" for part in "qkv"),
            f"{block}.attn.proj": f"{theirs}.self_attn.out_proj",
            f"{block}.norm2": f"{theirs}.layer_norm2",
            f"{block}.mlp.fc1": f"{theirs}.mlp.fc1",
            f"{block}.mlp.fc2": f"{theirs}.mlp.fc2",
        }
    return modules


TRANSFORMERS = Naming(
    anchor=ANCHOR,
    input=INPUT,
    modules={
        "patch_embed.proj": "encoder.embeddings.patch_embeddings.proj",
        "norm": "encoder.layernorm",
        f"heads.{HEAD}": "classifier",
        **_pooler_modules(),
    },
    block_modules={
        "attn.qkv": " ".join(f"attention.{part}" for part in ("query", "key", "value")),
        "attn.proj": "attention.proj",
    },
    block="encoder.layer.{}.",
    tidy={r"(?<![^.])vjepa2\.": ""},
    idle="predictor",
)


class _Settings(Section, extra="ignore"):
    """config.json of transformers."""

    model_type: Literal["vjepa2"]
    num_attention_heads: Size = 16
    in_chans: Literal[3] = 3
    frames_per_clip: Size = 64
    crop_size: Square = 256
    hidden_act: Literal["gelu"] = "gelu"
    qkv_bias: Literal[True] = True
    layer_norm_eps: Annotated[float, Field(gt=0, le=1)] = 1e-6
    quantization_config: None = None
    id2label: dict[str, str | int] | None = None


def _read_official(version: Literal["2", "2.1"], view: View, folder: Path) -> tuple[VJEPA2Config, frozenset[str]]:
    """Find out which encoder official weights belong to; see `WeightFormat.read_config`.

    They state neither attention heads nor the size of the input. Positions do not depend on the latter.
    """
    config = VJEPA2Config(version=version, **_sizes(view), num_heads=ANY_NUM_HEADS)
    return config, frozenset({"num_heads", "mean", "std"})


def _read_probe(view: View, folder: Path) -> tuple[VJEPA2Config, frozenset[str]]:
    """Find out what an official probe belongs to: any encoder of its width."""
    query, num_classes = view.shape(QUERY) or (), _num_classes(view)
    if len(query) != 3 or not num_classes:
        raise CoverError(f"{QUERY} is {list(query)}, and linear has {num_classes} classes")
    config = VJEPA2Config(
        depth=1,
        width=query[-1],
        num_heads=ANY_NUM_HEADS,
        mlp_width=1,
        heads={HEAD: class_names(num_classes)},
        pooler=PoolerConfig(depth=_num_blocks(view, "pooler.blocks"), num_heads=PROBE_HEADS),
    )
    of_encoder = {*VJEPA2Config.weight_sizes} - {"width"}
    return config, frozenset({*of_encoder, "pooler_heads", "mean", "std", "heads"})


def _read_transformers(view: View, folder: Path) -> tuple[VJEPA2Config, frozenset[str]]:
    """Find out which model a folder of transformers has. The pooler has the attention heads of the encoder there."""
    values = read_object(folder / CONFIG_FILE)
    stated = check_settings(_Settings, {"model_type": "vjepa2"} | values, folder / CONFIG_FILE, REMEDY)
    colours = read_colours(folder, REMEDY) if values else (None, None)
    num_classes, heads, pooler = _num_classes(view), {}, None
    labels = label_names(stated.id2label or {})
    if view.shape(QUERY):
        pooler = PoolerConfig(
            depth=_num_blocks(view, "pooler.blocks"), num_heads=stated.num_attention_heads, eps=stated.layer_norm_eps
        )
        labels = labels if labels and len(labels) == num_classes else None
        heads = {HEAD: labels or class_names(num_classes)}
    config = VJEPA2Config(
        **_sizes(view),
        num_heads=stated.num_attention_heads if values else ANY_NUM_HEADS,
        num_frames=stated.frames_per_clip,
        image_size_px=side_of(stated.crop_size),
        heads=heads,
        mean=colours[0] or IMAGENET_MEAN,
        std=colours[1] or IMAGENET_STD,
        layer_norm_eps=stated.layer_norm_eps,
        pooler=pooler,
    )
    found: dict[str, Any] = {
        "num_heads": values,
        "pooler_heads": values or not pooler,
        "mean": colours[0],
        "std": colours[1],
        "heads": labels or not heads,
    }
    return config, frozenset(name for name, value in found.items() if not value)


def _sizes(view: View) -> dict[str, Any]:
    """Return the sizes that the shapes of the tensors reveal."""
    kernel = view.shape("patch_embed.proj.weight") or ()
    hidden = view.shape("blocks.0.mlp.fc1.weight") or ()
    if len(kernel) != 5 or len(hidden) != 2:
        raise CoverError(f"patch_embed.proj.weight is {list(kernel) or 'absent'}, mlp.fc1.weight {list(hidden)}")
    return {
        "depth": _num_blocks(view, "blocks"),
        "width": kernel[0],
        "mlp_width": hidden[0],
        "tubelet_size": kernel[2],
        "patch_size_px": kernel[3],
    }


def _num_blocks(view: View, prefix: str) -> int:
    return next(n for n in count() if n == MAX_POOLER_DEPTH or not view.shape(f"{prefix}.{n}.norm1.weight"))


def _num_classes(view: View) -> int:
    return (view.shape(f"heads.{HEAD}.weight") or (0,))[0]


def _has_rotary_encoder(view: View, container: str) -> bool:
    """Whether the model has tubelets, all three biases and a last norm, but no class token, fc_norm or pooled keys."""
    part = view.parts("patch_embed.proj.weight")
    has = {*view.names}
    return (
        bool(part and view.parts("blocks.0.attn.qkv.bias") and view.parts("norm.weight"))
        and len(view.file.shapes[part[0]]) == 5
        and not has & {"cls_token", "fc_norm.weight", "blocks.0.attn.pool_k.weight"}
    )


def _is_probe(view: View, container: str) -> bool:
    return bool(view.parts(f"heads.{HEAD}.weight"))


def transformers_names(name: str) -> list[str]:
    """Return the names of a tensor in transformers' VJEPA2ForVideoClassification; ours joins these.

    >>> transformers_names("blocks.0.mlp.fc1.bias")
    ['vjepa2.encoder.layer.0.mlp.fc1.bias']

    Args:
        name: Our name of the tensor, with HEAD in place of the dataset.
    """
    theirs = TRANSFORMERS.theirs(name)
    return [f"vjepa2.{other}" if other.startswith("encoder.") else other for other in theirs]


FORMATS = (
    WeightFormat("vjepa2", "the official V-JEPA 2", (OFFICIAL,), partial(_read_official, "2"), _has_rotary_encoder),
    WeightFormat(
        "vjepa2.1", "the official V-JEPA 2.1", (OFFICIAL_2_1,), partial(_read_official, "2.1"), _has_rotary_encoder
    ),
    WeightFormat("vjepa2-probe", "a probe of V-JEPA 2", (PROBE,), _read_probe, _is_probe, part="pooler|heads"),
    WeightFormat(
        "transformers-vjepa2", "transformers' V-JEPA 2", (TRANSFORMERS,), _read_transformers, _has_rotary_encoder
    ),
)
