"""What every model is made of besides its backbone: input format, heads and normalisation, as plain data."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from cover.errors import CoverError

Heads = Mapping[str, int | Sequence[str]]

MAX_FRAMES, MAX_IMAGE_SIZE = 2**16, 2**15
"""No published model comes near; a damaged or hostile file may say 10⁹."""
MAX_CLASSES = 2**22
MIN_EPS, MIN_STD, MAX_COLOUR = 1e-30, 1e-6, 1e6
MAX_NAME_BYTES = 100
"""Of a dataset's name, which becomes part of the names of files."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model as plain data that fits in a config.json. Each family adds the fields of its backbone.

    Values that make no model raise CoverError.

    Attributes:
        family: The name of the family.
        weight_sizes: Fields in which weights must equal a model that is to take them over.
        num_frames: Frames of a clip.
        image_size_px: Side of a frame.
        drop_path_rate: Share of residual branches dropped in the last block, rising linearly from 0 in the first.
        heads: Class names of every dataset, in label order.
        mean, std: Input normalisation of RGB in 0..1.
        layer_norm_eps: Added to the variance in every layer norm. It belongs to the weights: transformers' ViTs were
            trained or converted with 1e-12.
    """

    family: ClassVar[str]
    weight_sizes: ClassVar[tuple[str, ...]] = ()

    num_frames: int = 8
    image_size_px: int = 224
    drop_path_rate: float = 0.0
    heads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        self.check_size("num_frames", MAX_FRAMES)
        self.check_size("image_size_px", MAX_IMAGE_SIZE)
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

    def check_size(self, name: str, most: int) -> None:
        """Raise CoverError unless the field `name` is a whole number from 1 to `most`."""
        value = getattr(self, name)
        if not isinstance(value, int) or not _is_within(value, 1, most):
            raise CoverError(f"{name} is {reprlib.repr(value)}; it is a whole number from 1 to {most:,}")

    def describe(self, not_stated: Collection[str] = ()) -> str:
        """The backbone in a line, such as "12 blocks, width 768". not_stated: fields whose values mean nothing."""
        return self.family


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


def class_names(classes: int | Sequence[str]) -> tuple[str, ...]:
    """Class names as given, or "0", "1", … for a mere number of classes. Raises CoverError for an impossible number."""
    if not isinstance(classes, int):
        return tuple(classes)
    if not _is_within(classes, 1, MAX_CLASSES):
        raise CoverError(f"a head of {classes!r} classes; their number is from 1 to {MAX_CLASSES:,}")
    return tuple(map(str, range(classes)))
