"""A model as plain data. Here are the parts that all families share: input format, heads and normalisation."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args

from cover.errors import CoverError

Heads = Mapping[str, int | Sequence[str]]
"""For each dataset its class names in label order, or only their number."""

MAX_FRAMES, MAX_IMAGE_SIZE = 2**16, 2**15
"""Far above any published model. A damaged or hostile file may say 10⁹."""
MAX_CLASSES = 2**22
MIN_EPS, MIN_STD, MAX_COLOUR = 1e-30, 1e-6, 1e6
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of the colours of ImageNet, which many published weights were trained with."""
MAX_DEPTH = 1024
MAX_VIT_SIZES = {"depth": MAX_DEPTH, "width": 2**16, "num_heads": 2**16, "patch_size_px": 2**15}
"""The largest sizes of a plain ViT, for the same reason."""
MAX_NAME_BYTES = 100
"""The longest name of a dataset, which becomes part of file names."""
_LATER = ("pooler", "sigmoid_heads")
"""Fields that config.json has only if they are set, because older ones lack them."""
MAX_POOLER_DEPTH, MAX_POOLER_HEADS = 1024, 2**16


@dataclass(frozen=True, kw_only=True)
class PoolerConfig:
    """The attentive pooler, which stands between the backbone and the linear heads.

    Attributes:
        depth: Blocks of self-attention before the cross-attention.
        num_heads: Attention heads.
        eps: Added to the variance in layer norms. It belongs to the weights: official probes were trained with 1e-5,
            transformers takes 1e-6.

    Raises:
        CoverError: A value is impossible.
    """

    depth: int = 3
    num_heads: int = 16
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _check_whole("pooler_depth", self.depth, 0, MAX_POOLER_DEPTH)
        _check_whole("pooler_heads", self.num_heads, 1, MAX_POOLER_HEADS)
        if not _is_within(self.eps, MIN_EPS, 1):
            raise CoverError(f"pooler eps is {reprlib.repr(self.eps)}; it must be a number from {MIN_EPS} to 1")

    def describe(self) -> str:
        """Describe it in one line."""
        blocks, heads = counted(self.depth, "block"), counted(self.num_heads, "head")
        return f"attentive, {blocks} of self-attention, then a learned query, {heads}"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The configuration of a model, as stored in config.json. Each family adds the fields of its backbone.

    Attributes:
        family: The name of the family.
        weight_sizes: The fields that a model must share with the weights that it loads. None leaves the choice to them.
        adopted: The fields that a model takes from the weights that it loads.
        num_frames: Frames of a clip.
        image_size_px: Side of a frame.
        drop_path_rate: Share of the residual branches that training drops in the last block. It rises linearly from 0
            in the first block.
        heads: Class names of every dataset, in label order.
        mean: Mean of the input normalisation, for RGB in 0..1.
        std: Standard deviation of the input normalisation, for RGB in 0..1.
        layer_norm_eps: Added to the variance in every layer norm. It belongs to the weights: transformers' ViTs were
            trained or converted with 1e-12.
        pooler: What pools the tokens of a clip for the heads; None if they read the backbone's feature.
        sigmoid_heads: The heads that were trained with binary cross-entropy: each class has a probability of its own,
            the sigmoid of its logit. The probabilities of other heads are a softmax over their classes.

    Raises:
        CoverError: A value is impossible.
    """

    family: ClassVar[str]
    weight_sizes: ClassVar[tuple[str, ...]] = ()
    adopted: ClassVar[tuple[str, ...]] = ("mean", "std", "layer_norm_eps")

    num_frames: int = 8
    image_size_px: int = 224
    drop_path_rate: float = 0.0
    heads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    layer_norm_eps: float = 1e-6
    pooler: PoolerConfig | None = None
    sigmoid_heads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.check_size("num_frames", MAX_FRAMES)
        self.check_size("image_size_px", MAX_IMAGE_SIZE)
        if not _is_within(self.drop_path_rate, 0, 1):
            raise CoverError(f"drop_path_rate is {reprlib.repr(self.drop_path_rate)}; it must be a number from 0 to 1")
        if not _is_within(self.layer_norm_eps, MIN_EPS, 1):
            raise CoverError(
                f"layer_norm_eps is {reprlib.repr(self.layer_norm_eps)}; it must be a number from {MIN_EPS} to 1"
            )
        _check_colours("mean", self.mean, -MAX_COLOUR)
        _check_colours("std", self.std, MIN_STD)
        if not isinstance(self.heads, Mapping):
            raise CoverError(f"heads are {reprlib.repr(self.heads)}; they must be class names by dataset")
        for name, classes in self.heads.items():
            check_dataset_name(name)
            if not isinstance(classes, tuple) or not classes or not all(isinstance(label, str) for label in classes):
                raise CoverError(
                    f"the classes of head {name} are {reprlib.repr(classes)}; they must be one or more names"
                )
        if not isinstance(self.sigmoid_heads, tuple) or not set(self.sigmoid_heads) <= set(self.heads):
            raise CoverError(f"sigmoid_heads are {reprlib.repr(self.sigmoid_heads)}; they must be names of heads")

    def check_size(self, name: str, most: int) -> None:
        """Check that a field is a whole number.

        Args:
            name: The field.
            most: Its largest value. The smallest is 1.

        Raises:
            CoverError: It is not.
        """
        _check_whole(name, getattr(self, name), 1, most)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as in config.json. Old versions can read it if it has none of _LATER."""
        return {name: value for name, value in asdict(self).items() if name not in _LATER or value}

    def with_heads(self, names: Collection[str]) -> Self:
        """Return this configuration with some of its heads.

        Args:
            names: The datasets that keep their heads.
        """
        heads = {name: classes for name, classes in self.heads.items() if name in names}
        return replace(self, heads=heads, sigmoid_heads=tuple(name for name in self.sigmoid_heads if name in names))

    def probability_function(self, head: str) -> Literal["softmax", "sigmoid"]:
        """Return the function that turns the logits of a head into probabilities."""
        return "sigmoid" if head in self.sigmoid_heads else "softmax"

    def adopt(self, config: ModelConfig) -> Self:
        """Return this configuration with what belongs to a set of weights.

        Args:
            config: The configuration of the weights, of the same family. None in a field means that they do not state
                it.
        """
        found = {name: getattr(config, name) for name in self.adopted}
        return replace(self, **{name: value for name, value in found.items() if value is not None})

    def settled(self) -> Self:
        """Return this configuration as one of weights, which leaves nothing open."""
        return self

    def describe(self, not_stated: Collection[str] = ()) -> str:
        """Describe the backbone in one line, such as "12 blocks, width 768".

        Args:
            not_stated: Fields that the source of the configuration does not state. Their values mean nothing.
        """
        return self.family


def counted(number: int, what: str) -> str:
    """Return a number of things, such as "1 block" or "2 blocks"."""
    return f"{number} {what}{'s' * (number != 1)}"


def _check_whole(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or not _is_within(value, least, most):
        raise CoverError(f"{name} is {reprlib.repr(value)}; it must be a whole number from {least} to {most:,}")


Activation = Literal["gelu", "gelu_tanh", "quick_gelu"]
"""The GELU of an MLP: exact, approximated by tanh (SigLIP), or by x / (1 + exp(-1.702 x)) (OpenAI's CLIP)."""


@dataclass(frozen=True, kw_only=True)
class ViTConfig(ModelConfig):
    """The configuration of a model with the blocks of a plain ViT, which can start from image models.

    Attributes:
        depth: Number of blocks.
        width: Size of a token, D.
        num_heads: Attention heads per block.
        patch_size_px: Side of a patch.
        activation: The GELU, which belongs to the weights. None is the exact one, and leaves the choice to the weights
            that a new model starts from.
        norm_pre: Whether a layer norm comes between embeddings and blocks, as in CLIP. It comes with the weights, too.

    Raises:
        CoverError: A value is impossible, or values do not fit together.
    """

    weight_sizes: ClassVar[tuple[str, ...]] = ("depth", "width", "num_heads", "patch_size_px", "activation")
    adopted: ClassVar[tuple[str, ...]] = (*ModelConfig.adopted, "activation", "norm_pre")

    depth: int
    width: int
    num_heads: int
    patch_size_px: int = 16
    activation: Activation | None = "gelu"
    norm_pre: bool = False

    def __post_init__(self) -> None:
        for name, most in MAX_VIT_SIZES.items():
            self.check_size(name, most)
        if self.activation not in (None, *get_args(Activation)):
            choices = ", ".join(get_args(Activation))
            raise CoverError(f"activation is {reprlib.repr(self.activation)}; use one of {choices}")
        if not isinstance(self.norm_pre, bool):
            raise CoverError(f"norm_pre is {reprlib.repr(self.norm_pre)}; it must be true or false")
        super().__post_init__()
        check_vit_sizes(self.image_size_px, self.patch_size_px, self.width, self.num_heads)

    def settled(self) -> Self:
        """See ModelConfig."""
        return replace(self, activation=self.activation or "gelu")

    def describe_blocks(self, not_stated: Collection[str] = ()) -> str:
        """Describe the blocks, such as "12 blocks, width 768, 12 heads".

        Args:
            not_stated: As for `describe`.
        """
        num_heads = "heads not stated" if "num_heads" in not_stated else counted(self.num_heads, "head")
        parts = [counted(self.depth, "block"), f"width {self.width}", num_heads]
        if "activation" in not_stated:
            parts.append("GELU not stated")
        elif self.activation not in (None, "gelu"):
            parts.append({"gelu_tanh": "tanh GELU", "quick_gelu": "quick GELU"}[self.activation])
        return ", ".join([*parts, "norm before the blocks"] if self.norm_pre else parts)


Config = TypeVar("Config", bound=ModelConfig)


def config_of_variant(
    kind: type[Config], variant: Mapping[str, Any], heads: Heads, settings: Mapping[str, Any]
) -> Config:
    """Return the configuration of a named size. If only the width is set, MLPs are four times as wide.

    Args:
        kind: The class to make.
        variant: The fields of the named size.
        heads: For each dataset its class names, or their number.
        settings: Other fields; None keeps the value of the variant.

    Raises:
        CoverError: Values do not fit together.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    names = {name: class_names(classes) for name, classes in heads.items()}
    widened = {"mlp_width": 4 * given["width"]} if "width" in given and "mlp_width" in variant else {}
    return kind(heads=names, **{**variant, **widened, **given})


def _is_within(value: object, least: float, most: float) -> bool:
    """Whether a value is a number in a range. NaN is in none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _check_colours(name: str, values: object, least: float) -> None:
    if not isinstance(values, tuple) or len(values) != 3 or not all(_is_within(v, least, MAX_COLOUR) for v in values):
        raise CoverError(
            f"{name} is {reprlib.repr(values)}; it must be three numbers from {least:g} to {MAX_COLOUR:g}: "
            "red, green, blue"
        )


def check_dataset_name(name: object) -> None:
    """Check that a dataset can have a name, which becomes part of other names.

    These are the names of tensors ("heads.NAME.weight"), of files, and of curves in TensorBoard.

    Args:
        name: Text of letters, digits, "_" and "-", in Unicode's composed form (NFC).

    Raises:
        CoverError: The name is not such text, or too long.
    """
    if not isinstance(name, str) or len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        raise CoverError(
            f"dataset name {reprlib.repr(name)}: a name must be text of at most {MAX_NAME_BYTES} bytes; rename it"
        )
    composed = unicodedata.normalize("NFC", name)
    if name != composed or not re.fullmatch(r"[\w-]+", name):
        other = re.sub(r"[^\w-]+", "_", composed).strip("_") or "my_dataset"
        raise CoverError(f"dataset name {name!r}: a name may have letters, digits, '_' and '-' only; call it {other!r}")


def check_vit_sizes(image_size_px: int, patch_size_px: int, width: int, num_heads: int) -> None:
    """Check that patches fill a frame, and attention heads a token.

    Args:
        image_size_px: Side of a frame.
        patch_size_px: Side of a patch.
        width: The size of a token.
        num_heads: Attention heads.

    Raises:
        CoverError: They do not.
    """
    if image_size_px % patch_size_px:
        raise CoverError(
            f"image_size {image_size_px} is not a multiple of patch_size {patch_size_px}; "
            f"use {image_size_px // patch_size_px * patch_size_px or patch_size_px}"
        )
    if width % num_heads:
        raise CoverError(f"width {width} is not a multiple of the {num_heads} attention heads; change one of them")


def check_tubelets(num_frames: int, tubelet_size: int, model: str) -> None:
    """Check that a clip can be cut into tubelets. An image, which has one frame, always can.

    Args:
        num_frames: Frames of the clip.
        tubelet_size: Frames of a tubelet.
        model: What the model is called.

    Raises:
        CoverError: It cannot.
    """
    rest = num_frames % tubelet_size
    if num_frames > 1 and rest:
        below, above = num_frames - rest, num_frames - rest + tubelet_size
        raise CoverError(
            f"num_frames {num_frames} is not a multiple of {tubelet_size}, the frames of a {model}'s tubelet; "
            f"use {f'{below} or ' if below else ''}{above}, or 1 for images"
        )


def class_names(classes: int | Sequence[str]) -> tuple[str, ...]:
    """Return class names as given, or "0", "1", … for a number of classes.

    Args:
        classes: The names in label order, or their number.

    Raises:
        CoverError: The number is impossible.
    """
    if not isinstance(classes, int):
        return tuple(classes)
    if not _is_within(classes, 1, MAX_CLASSES):
        raise CoverError(f"a head of {classes!r} classes; the number must be from 1 to {MAX_CLASSES:,}")
    return tuple(map(str, range(classes)))
