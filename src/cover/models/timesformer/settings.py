"""The settings that transformers and timm save beside weights: what is honoured, and what is refused.

A setting that changes the function is one of the fields below, and a value that a TimeSformer cannot express is an
error. Settings that change only the training, such as dropout, are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from cover.config.layers import AnySection, Section, checked
from cover.core.run_files import CONFIG_FILE
from cover.core.text_files import read_json
from cover.errors import CheckpointError, RecipeError
from cover.models.config import Attention


def _check_square(sizes: int | tuple[int, ...]) -> int | tuple[int, ...]:
    if isinstance(sizes, tuple) and len({*sizes[-2:]}) > 1:
        raise ValueError("frames and patches are square here")
    return sizes


Size = Annotated[int, Field(ge=1, le=2**16)]
Square = Annotated[int | tuple[int, ...], AfterValidator(_check_square)]
"""One side in pixels, (rows, columns), or (channels, rows, columns)."""
Colours = tuple[float, float, float]
PREPROCESSOR_FILE = "preprocessor_config.json"

TIMM_VIT = re.compile(r"(?:vit|deit)_(tiny|small|base|large|huge)_patch\d+_\d+(?:_in21k|_dino|_sam|_mae)?(?:\..*)?")
"""timm's names of plain ViTs. Others have other activations, norms or poolings, which no tensor tells."""
TIMM_SIZES = {
    "tiny": (12, 192, 3),
    "small": (12, 384, 6),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
    "huge": (32, 1280, 16),
}
"""Depth, width and attention heads of timm's plain ViTs."""


@dataclass(frozen=True)
class Settings:
    """What a folder says about the weights in it; None where it says nothing.

    path: the config.json. depth, width, attention: what they have to be for the settings to belong to the weights.
    labels: class names by row.
    """

    path: Path
    depth: int | None = None
    width: int | None = None
    num_heads: int | None = None
    num_frames: int | None = None
    attention: Attention | None = None
    layer_norm_eps: float | None = None
    labels: tuple[str, ...] | None = None
    mean: Colours | None = None
    std: Colours | None = None


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
    hidden_act: Literal["gelu"] = "gelu"
    qkv_bias: Literal[True] = True
    layer_norm_eps: Annotated[float, Field(gt=0, le=1)] | None = None
    quantization_config: None = None
    id2label: dict[str, str | int] | None = None


class _Preprocessor(Section, extra="ignore"):
    """preprocessor_config.json of transformers."""

    image_mean: Colours | None = None
    image_std: Colours | None = None
    do_normalize: bool | None = None
    do_rescale: Literal[True] | None = None
    rescale_factor: Annotated[float, Field(ge=0.9999 / 255, le=1.0001 / 255)] | None = None


class _TimmInput(Section, extra="ignore"):
    mean: Colours | None = None
    std: Colours | None = None
    input_size: Square | None = None


class _TimmArguments(Section):
    """Arguments of timm's VisionTransformer that we honour, whose shapes tell, or that change only the training."""

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
    """config.json of timm; older ones have pretrained_cfg's values at the top."""

    architecture: str | None = None
    global_pool: Literal["token", ""] | None = None
    label_names: tuple[str, ...] | None = None
    model_args: _TimmArguments | None = None
    pretrained_cfg: _TimmInput | None = None


def read_settings(format: str, folder: Path) -> Settings:
    """The settings beside weights of a code base, if they are its own.

    Raises CheckpointError for files that cannot be read, values that are impossible, and functions that are not ours.
    """
    if format.startswith("transformers"):
        return _transformers(format, folder)
    values = _read(folder / CONFIG_FILE) if format == "timm-vit" else {}
    is_timm = values.keys() & {"architecture", "model_args", "pretrained_cfg"}
    return (
        _timm(_checked(_Timm, values, folder / CONFIG_FILE), folder / CONFIG_FILE)
        if is_timm
        else Settings(folder / CONFIG_FILE)
    )


def read_model_type(folder: Path) -> str | None:
    """What a config.json calls its model, in the words of cover, transformers or timm."""
    values = _read(folder / CONFIG_FILE)
    kind = values.get("model_type") or values.get("architecture")
    return str(kind)[:100] if kind else None


def _transformers(format: str, folder: Path) -> Settings:
    values = _read(folder / CONFIG_FILE)
    mean, std = _colours(folder)
    if "model_type" not in values:
        return Settings(folder / CONFIG_FILE, mean=mean, std=std)
    said = _checked(_Transformers, values, folder / CONFIG_FILE)
    if (said.model_type == "timesformer") != (format == "transformers-timesformer"):
        raise CheckpointError(
            f"{folder / CONFIG_FILE} is of a {said.model_type}, but the weights beside it look like {format}; "
            "give them the config.json that they came with"
        )
    attention: dict[str | None, Attention] = {"divided_space_time": "divided", "joint_space_time": "joint"}
    return Settings(
        folder / CONFIG_FILE,
        depth=said.num_hidden_layers,
        width=said.hidden_size,
        num_heads=said.num_attention_heads,
        num_frames=said.num_frames,
        attention=attention.get(said.attention_type, "space_only") if said.attention_type else None,
        # What transformers takes where the file says nothing.
        layer_norm_eps=said.layer_norm_eps or (1e-6 if said.model_type in ("timesformer", "vit_msn") else 1e-12),
        labels=_labels(said.id2label or {}),
        mean=mean,
        std=std,
    )


def _labels(numbered: Mapping[str, str | int]) -> tuple[str, ...] | None:
    """Class names in the order of their numbers; None where there are none, or only transformers' placeholders."""
    names = [numbered.get(str(index)) for index in range(len(numbered))]
    if not names or None in names or names == [f"LABEL_{index}" for index in range(len(names))]:
        return None
    return tuple(map(str, names))


def _colours(folder: Path) -> tuple[Colours | None, Colours | None]:
    """Mean and standard deviation of an image processor."""
    path = folder / PREPROCESSOR_FILE
    said = _checked(_Preprocessor, _read(path), path)
    if said.do_normalize is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return said.image_mean, said.image_std


def _timm(said: _Timm, path: Path) -> Settings:
    arguments = said.model_args or _TimmArguments()
    depth, width, num_heads = arguments.depth, arguments.embed_dim, arguments.num_heads
    if said.architecture is not None:
        known = TIMM_VIT.fullmatch(said.architecture)
        if not known:
            raise CheckpointError(
                f"{path}: architecture {said.architecture[:100]!r} is not one of timm's plain ViTs, such as "
                "vit_base_patch16_224; if yours computes the same, give the weights without this file"
            )
        if num_heads is None:  # then the model is the one of that name
            sizes = TIMM_SIZES[known[1]]
            depth, width, num_heads = depth or sizes[0], width or sizes[1], sizes[2]
    described = said.pretrained_cfg or said
    return Settings(
        path,
        depth=depth,
        width=width,
        num_heads=num_heads,
        labels=said.label_names,
        mean=described.mean,
        std=described.std,
    )


def _checked(kind: type[AnySection], values: dict[str, Any], path: Path) -> AnySection:
    try:
        return checked(kind, values, str(path))
    except RecipeError as error:
        raise CheckpointError(f"{str(error)[:400]}; take weights of a plain ViT or TimeSformer") from None
    except RecursionError:
        raise CheckpointError(f"{path} is nested too deeply; copy or download it again") from None


def _read(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no such file. Raises CheckpointError when it is damaged."""
    try:
        values = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}); copy or download it again") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds {type(values).__name__}, not an object; copy or download it again")
    return values
