"""The keys of a recipe that concern one training clip. Each dataset may set its own."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainValidator

from cover.config.families import Positive
from cover.config.layers import Section, Share

NotNegative = Annotated[float, Field(ge=0)]
AreaShare = Annotated[float, Field(gt=0, le=1)]


def _sampling(value: object) -> object:
    if value == "uniform":
        return value
    if isinstance(value, dict) and len(value) == 1:
        ((key, length),) = value.items()
        if key == "window_seconds" and type(length) in (int, float) and 0 < length < math.inf:
            return value
        if key == "stride_frames" and type(length) is int and length > 0:
            return value
    raise ValueError('it is "uniform", { window_seconds = S } with S above 0, or { stride_frames = N } with N from 1')


SamplingRule = Annotated[
    Literal["uniform"] | dict[Literal["window_seconds", "stride_frames"], int | float],
    PlainValidator(
        _sampling,
        json_schema_input_type=Literal["uniform"] | dict[Literal["window_seconds", "stride_frames"], int | float],
    ),
]


class RandAugmentSection(Section):
    """Operations per clip, 0 for none, and their strength."""

    num_ops: Annotated[int, Field(ge=0)] = 0
    """Operations per clip; 0 turns RandAugment off."""
    magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0
    """Strength, from 0 to 10."""
    magnitude_std: NotNegative = 0.0
    """Standard deviation of the strength, drawn for each operation."""
    probability: Share = 1.0
    """How often each operation is applied."""
    operations: Literal["paper", "timm"] = "paper"
    """The 14 of the paper, or timm's 15."""


def _policy(value: object) -> object:
    """Turn a policy string of timm into the keys of RandAugmentSection."""
    if not isinstance(value, str):
        return value
    first, *parts = value.split("-")
    found = [re.fullmatch(r"(mstd|m|n|p|inc)([0-9.]+)", part) for part in parts]
    numbers = {match[1]: match[2] for match in found if match}
    if first != "rand" or len(numbers) < len(parts) or numbers.pop("inc", "0") != "1":
        raise ValueError(
            'it is a table or a policy of timm with increasing strengths, such as "rand-m9-n2-mstd0.5-inc1", of rand, '
            "m (magnitude), n (operations), mstd (its standard deviation), p (probability) and inc1"
        )
    try:
        return {
            "num_ops": int(numbers.get("n", 2)),
            "magnitude": float(numbers.get("m", 10)),
            "magnitude_std": float(numbers.get("mstd", 0)),
            "probability": float(numbers.get("p", 0.5)),
            "operations": "timm",
        }
    except ValueError:
        raise ValueError(f"{value!r} has a part that is no number") from None


RandAugmentRule = Annotated[
    RandAugmentSection, BeforeValidator(_policy, json_schema_input_type=RandAugmentSection | str)
]


ScaleJitter = Literal["uniform", "inverse_uniform"]


class ClipData(Section):
    """How a training clip is read."""

    short_side: tuple[Positive, Positive] | None = None
    """`[smallest, largest]`: the shorter side of a frame is scaled to a random size in this range, in pixels, before
    the crop. By default (256, 320) at image_size 224, (448, 512) at 448, and in proportion at other sizes."""
    scale_jitter: ScaleJitter = "uniform"
    """How a size in `short_side` is drawn: evenly ("uniform"), or so that its inverse is even ("inverse_uniform"), as
    SlowFast and TimeSformer do for SSv2."""
    horizontal_flip: bool = True
    """Mirror half of the training clips. Turn it off if left and right matter to the labels, or set `mirror_pairs` of
    the dataset."""
    temporal_jitter: bool = False
    """Draw each frame at random from its segment of the clip instead of taking the middle."""
    sampling: SamplingRule = "uniform"
    """Frames from all of the clip ("uniform"), or from a part of it at a random time: `{ window_seconds = 4.0 }`, the
    length of the windows of `cover timeline`; or `{ stride_frames = 4 }`, every 4th frame. Evaluation and
    `cover predict` spread such parts evenly over the clip."""
    cache_frames: bool = False
    """Decode every sample once and keep its frames in memory."""
    cached_per_frame: Positive = 1
    """With cache_frames: how many frames to keep for each frame of a clip. `temporal_jitter` draws one of them."""


class ClipAugmentation(Section):
    """How a training clip is changed."""

    randaugment: RandAugmentRule = RandAugmentSection()
    """`{ num_ops = 2, magnitude = 9.0 }`: RandAugment, the same operations for all frames of a clip. Or a published
    policy of timm, such as "rand-m9-n2-mstd0.5-inc1"."""
    random_resized_crop: tuple[AreaShare, AreaShare] | None = None
    """`[smallest, largest]`: crop a part of this share of the frame's area, with an aspect from 3/4 to 4/3, and scale
    it to a square. Replaces `data.short_side`."""
    color_jitter: Share = 0.0
    """Multiply brightness, contrast and saturation by random factors within 1 ± this, the same for all frames."""
    random_erasing: Share = 0.0
    """Probability of random erasing: noise in a box of 1/50 to 1/3 of the area, the same box in all frames."""
    mixup: NotNegative = 0.0
    """α of mixup: blend two clips of the same dataset. With cutmix on as well, each clip gets one of the two."""
    cutmix: NotNegative = 0.0
    """α of CutMix: paste a box of one clip into another clip of the same dataset."""


class ClipLoss(Section):
    """What a training clip should be answered, and how much that counts."""

    loss_weight: NotNegative = 1.0
    """Weight of a dataset's loss in the sum of all datasets'."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each target that is spread over all classes of the dataset."""


class ClipSection(ClipData, ClipAugmentation, ClipLoss):
    """All keys that concern one training clip. Recipes set them for all datasets, and each dataset may set its own."""
