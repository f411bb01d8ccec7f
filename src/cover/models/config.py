"""What a model is made of: everything needed to build it again, as plain data that fits in a config.json."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from cover.errors import CoverError

Attention = Literal["divided", "joint", "space_only"]
ImageTemporal = Literal["attend", "skip"]
Heads = Mapping[str, int | Sequence[str]]

# name: (depth, width, attention heads). Base and Large are the paper's (§4.1, appendix B).
VARIANTS: dict[str, tuple[int, int, int]] = {
    "timesformer_tiny": (6, 192, 3),
    "timesformer_small": (12, 384, 6),
    "timesformer_base": (12, 768, 12),
    "timesformer_large": (24, 1024, 16),
}
MAX_SIZES = {
    "depth": 1024,
    "width": 2**16,
    "num_heads": 2**16,
    "num_frames": 2**16,
    "image_size_px": 2**15,
    "patch_size_px": 2**15,
}
"""No published model comes near; a damaged or hostile file may say 10⁹."""
MAX_CLASSES = 2**22
MIN_EPS, MIN_STD, MAX_COLOUR = 1e-30, 1e-6, 1e6
MAX_NAME_BYTES = 100
"""Of a dataset's name, which becomes part of the names of files."""


@dataclass(frozen=True)
class ModelConfig:
    """Architecture, heads and input format of a TimeSformer. Values that make no model raise CoverError.

    attention: "divided" (temporal, then spatial), "joint" (all patches of all frames at once) or "space_only" (each
        frame by itself: image pre-training, Eq. 1).
    drop_path_rate: share of residual branches dropped in the last block, rising linearly from 0 in the first.
    image_temporal: what temporal attention does to a clip of one frame. "attend" follows the paper's appendix A
        (softmax over one key, so value and output projections remain), "skip" its Fig. 2 (no effect).
    heads: class names of every dataset, in label order.
    mean, std: input normalisation of RGB in 0..1.
    layer_norm_eps: added to the variance in every layer norm. It belongs to the weights: transformers' ViTs were
        trained or converted with 1e-12.
    """

    depth: int
    width: int
    num_heads: int
    num_frames: int = 8
    image_size_px: int = 224
    patch_size_px: int = 16
    attention: Attention = "divided"
    image_temporal: ImageTemporal = "attend"
    drop_path_rate: float = 0.0
    heads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        for name, most in MAX_SIZES.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not _is_within(value, 1, most):
                raise CoverError(f"{name} is {reprlib.repr(value)}; it is a whole number from 1 to {most:,}")
        for name, choices in (("attention", Attention), ("image_temporal", ImageTemporal)):
            if (value := getattr(self, name)) not in get_args(choices):
                raise CoverError(f"{name} is {reprlib.repr(value)}; take {' or '.join(get_args(choices))}")
        if self.image_size_px % self.patch_size_px:
            raise CoverError(
                f"image_size {self.image_size_px} is not a multiple of patch_size {self.patch_size_px}; "
                f"take {self.image_size_px // self.patch_size_px * self.patch_size_px or self.patch_size_px}"
            )
        if self.width % self.num_heads:
            raise CoverError(f"width {self.width} is not a multiple of the {self.num_heads} attention heads")
        if not _is_within(self.drop_path_rate, 0, 1):
            raise CoverError(f"drop_path_rate is {reprlib.repr(self.drop_path_rate)}; it is a number from 0 to 1")
        if not _is_within(self.layer_norm_eps, MIN_EPS, 1):
            raise CoverError(f"layer_norm_eps is {reprlib.repr(self.layer_norm_eps)}; it is from {MIN_EPS} to 1")
        _check_colours("mean", self.mean, -MAX_COLOUR)
        _check_colours("std", self.std, MIN_STD)
        if not isinstance(self.heads, Mapping):
            raise CoverError(f"heads are {reprlib.repr(self.heads)}; they are class names by dataset")
        for name, classes in self.heads.items():
            check_dataset_name(name)
            if not isinstance(classes, tuple) or not classes or not all(isinstance(label, str) for label in classes):
                raise CoverError(f"the classes of head {name} are {reprlib.repr(classes)}; they are one or more names")

    @property
    def grid_size(self) -> int:
        """Patches along one side of a frame."""
        return self.image_size_px // self.patch_size_px


def _is_within(value: object, least: float, most: float) -> bool:
    """Whether it is a number in that range; NaN is in none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _check_colours(name: str, values: object, least: float) -> None:
    if not isinstance(values, tuple) or len(values) != 3 or not all(_is_within(v, least, MAX_COLOUR) for v in values):
        raise CoverError(
            f"{name} is {reprlib.repr(values)}; it is three numbers from {least:g} to {MAX_COLOUR:g}: red, green, blue"
        )


def check_dataset_name(name: object) -> None:
    """Raise CoverError unless a dataset may be called `name`.

    The name becomes part of the names of tensors ("heads.NAME.weight"), of files, and of curves in TensorBoard.
    """
    if not isinstance(name, str) or len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        raise CoverError(
            f"dataset name {reprlib.repr(name)}: a name is text of at most {MAX_NAME_BYTES} bytes; rename it"
        )
    composed = unicodedata.normalize("NFC", name)
    if name != composed or not re.fullmatch(r"[\w-]+", name):
        other = re.sub(r"[^\w-]+", "_", composed).strip("_") or "my_dataset"
        raise CoverError(f"dataset name {name!r}: a name has letters, digits, '_' and '-' only; call it {other!r}")


def variant_config(variant: str, heads: Heads, **settings: object) -> ModelConfig:
    """The configuration of a named variant.

    heads: for each dataset its class names, or their number. settings: other fields of ModelConfig; None keeps the
    variant's value. Raises CoverError for an unknown variant or values that do not fit together.
    """
    if variant not in VARIANTS:
        raise CoverError(f"unknown model variant {variant!r}; the variants are {', '.join(VARIANTS)}")
    depth, width, num_heads = VARIANTS[variant]
    values: dict[str, object] = {"depth": depth, "width": width, "num_heads": num_heads}
    values |= {key: value for key, value in settings.items() if value is not None}
    return ModelConfig(heads={name: class_names(classes) for name, classes in heads.items()}, **values)  # type: ignore[arg-type]


def class_names(classes: int | Sequence[str]) -> tuple[str, ...]:
    """Class names as given, or "0", "1", … for a mere number of classes. Raises CoverError for an impossible number."""
    if not isinstance(classes, int):
        return tuple(classes)
    if not _is_within(classes, 1, MAX_CLASSES):
        raise CoverError(f"a head of {classes!r} classes; their number is from 1 to {MAX_CLASSES:,}")
    return tuple(map(str, range(classes)))
