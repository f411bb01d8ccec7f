"""The architecture of weights from another code base, from the shapes of their tensors and the settings beside them."""

from __future__ import annotations

from itertools import count, takewhile
from math import isqrt
from pathlib import Path

from cover.errors import CheckpointError, CoverError
from cover.models.checkpoints.config_files import Colours
from cover.models.checkpoints.naming import HEAD
from cover.models.checkpoints.tensor_view import View
from cover.models.config import class_names
from cover.models.timesformer.config import Attention, TimeSformerConfig
from cover.models.timesformer.settings import Settings, read_settings

PUBLISHED_MEAN_STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
VIT_MEAN_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
IMAGENET_MEAN_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP_EPS = 1e-5
ANY_NUM_HEADS = 1
"""A placeholder for a number of attention heads that the source does not state. It divides every width."""


def read_architecture(format: str, view: View, folder: Path) -> tuple[TimeSformerConfig, frozenset[str]]:
    """Find out which model the weights of another code base belong to.

    Args:
        format: The name of the format.
        view: The tensors.
        folder: The folder of the weights, which may have their settings.

    Returns:
        The configuration, and the names of its fields that the source does not state. Of these, "num_heads" has a
        meaningless value, "mean" and "std" have the usual values of the format, "heads" has numbers for classes, and
        "activation" is None.

    Raises:
        CoverError: The shapes fit no model.
        CheckpointError: The settings belong to other weights, or to a model that is not a TimeSformer or plain ViT.
    """
    settings = read_settings(format, folder)
    width, _, patch_size_px, _ = _axes(view, "patch_embed.proj.weight", 4)
    if any("rope" in name for name in view.names):
        raise CoverError("its positions are rotary, as in DINOv3")
    _, num_tokens, _ = _axes(view, "pos_embed", 3)
    depth = next(index for index in count() if not view.shape(f"blocks.{index}.norm1.weight"))
    attention = _attention(view)
    norm_pre = bool(view.shape("norm_pre.weight"))
    _check_settings(settings, depth=depth, width=width, attention=attention, norm_pre=norm_pre)
    num_frames = _axes(view, "time_embed", 3)[1] if view.shape("time_embed") else settings.num_frames or 1
    num_heads = _num_heads(view) or settings.num_heads
    mean, std = _usual_colours(format, norm_pre)
    # Only CLIPs are of both kinds, and have a norm before the blocks.
    activation = settings.activation or (None if norm_pre else "gelu")
    num_classes = _num_classes(view)
    labels = settings.labels if settings.labels and len(settings.labels) == num_classes else None
    config = TimeSformerConfig(
        depth=depth,
        width=width,
        num_heads=num_heads or ANY_NUM_HEADS,
        num_frames=num_frames,
        image_size_px=isqrt(num_tokens - 1) * patch_size_px,
        patch_size_px=patch_size_px,
        attention=attention,
        heads={HEAD: labels or class_names(num_classes)} if num_classes else {},
        mean=settings.mean or mean,
        std=settings.std or std,
        layer_norm_eps=settings.layer_norm_eps or (CLIP_EPS if norm_pre else 1e-6),
        activation=activation,
        norm_pre=norm_pre,
    )
    stated = {
        "num_heads": num_heads,
        "mean": settings.mean,
        "std": settings.std,
        "heads": labels or not num_classes,
        "activation": activation,
    }
    return config, frozenset(name for name, value in stated.items() if not value)


def _usual_colours(format: str, norm_pre: bool) -> tuple[Colours, Colours]:
    """Return the mean and standard deviation that weights of a format usually expect."""
    if format.endswith("timesformer"):
        return PUBLISHED_MEAN_STD
    if format.endswith("dinov2"):
        return IMAGENET_MEAN_STD
    return CLIP_MEAN_STD if norm_pre else VIT_MEAN_STD


def _check_settings(settings: Settings, **found: object) -> None:
    """Check that the settings agree with the tensors beside them."""
    for name, have in found.items():
        if (stated := getattr(settings, name)) not in (None, have):
            raise CheckpointError(
                f"{settings.path} states {name} {stated}, but the tensors beside it have {have}; give them their own "
                'config.json (timm states unusual num_heads, depth and embed_dim in "model_args")'
            )


def _axes(view: View, name: str, num_axes: int) -> tuple[int, ...]:
    """Return the shape of a tensor. Raises CoverError if it has another number of axes."""
    sizes = view.shape(name) or ()
    if len(sizes) != num_axes or not all(sizes):
        raise CoverError(f"{name} is {list(sizes) or 'absent'}")
    return sizes


def _num_heads(view: View) -> int | None:
    """Return the number of attention heads if the shapes reveal it, otherwise None.

    They do in JAX's format, where query, key and value are [in, heads, channels of a head]. Raises CoverError if the
    number differs between blocks.
    """
    if not view.naming.layout:
        return None
    blocks = takewhile(bool, (view.parts(f"blocks.{index}.attn.qkv.weight") for index in count()))
    kernels = [view.file.shapes[part] for parts in blocks for part in parts]
    num_heads = {kernel[1] for kernel in kernels if len(kernel) == 3}
    if len(num_heads) > 1:
        raise CoverError(f"its blocks have {' and '.join(map(str, sorted(num_heads)))} attention heads")
    return num_heads.pop() if num_heads else None


def _attention(view: View) -> Attention:
    if view.shape("blocks.0.temporal_fc.weight"):
        return "divided"
    return "joint" if view.shape("time_embed") else "space_only"


def _num_classes(view: View) -> int:
    """Return the rows of the classifier; 0 if there is none, or if it does not read the features directly."""
    names = [view.naming.theirs(f"heads.{HEAD}.{kind}")[0] for kind in ("weight", "bias")]
    module = names[0].removesuffix("weight")
    others = [name for name in view.names if name.startswith((module, "pre_logits")) and name not in names]
    weight = view.shape(f"heads.{HEAD}.weight")
    return weight[0] if weight and view.shape(f"heads.{HEAD}.bias") == weight[:1] and not others else 0
