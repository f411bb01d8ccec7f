"""`[datasets.NAME]` and `[data]`: what is read, how often, and what a step holds."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, create_model

from cover.config.clips import ClipAugmentation, ClipData, ClipLoss, NotNegative
from cover.config.families import Positive
from cover.config.layers import Section, Share

MIN_TEMPERATURE = 0.1
"""Smallest T of size^(1/T): the 10th power of a size is still a number, and only the largest dataset is left."""
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]
"""TOML has no null, so "" also means none: a recipe can remove a path that a part sets."""


def _rates(value: object) -> object:
    if value in ("proportional", "sqrt", "uniform"):
        return value
    if isinstance(value, dict) and value.keys() == {"temperature"}:
        (temperature,) = value.values()
        if type(temperature) in (int, float) and MIN_TEMPERATURE <= temperature < math.inf:
            return {"temperature": float(temperature)}
    raise ValueError(
        f'it is "proportional", "sqrt", "uniform" or {{ temperature = T }} with T of at least {MIN_TEMPERATURE}'
    )


Temperature = dict[Literal["temperature"], Annotated[float, Field(ge=MIN_TEMPERATURE)]]
Rates = Annotated[
    Literal["proportional", "sqrt", "uniform"] | Temperature,
    PlainValidator(_rates, json_schema_input_type=Literal["proportional", "sqrt", "uniform"] | Temperature),
]


def _class_weights(value: object) -> object:
    if value is None or value in ("inverse", "inverse_sqrt"):
        return value
    if isinstance(value, dict) and all(
        type(weight) in (int, float) and 0 <= weight < math.inf for weight in value.values()
    ):
        return {label: float(weight) for label, weight in value.items()}
    raise ValueError('it is "inverse", "inverse_sqrt" or a table of classes and weights, each 0 or more')


ClassWeights = Annotated[
    Literal["inverse", "inverse_sqrt"] | dict[str, float] | None,
    PlainValidator(_class_weights, json_schema_input_type=Literal["inverse", "inverse_sqrt"] | dict[str, NotNegative]),
]


def _mirror_pairs(value: object) -> object:
    if value == "auto":
        return value
    if isinstance(value, list | tuple) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        pairs = tuple((one, other) for one, other in value)
        if all(isinstance(label, str) for pair in pairs for label in pair):
            return pairs
    raise ValueError('it is "auto" or a list of pairs of classes, such as [["turn left", "turn right"]]')


MirrorPairs = Annotated[Literal["auto"] | tuple[tuple[str, str], ...], BeforeValidator(_mirror_pairs)]


class DatasetSection(Section):
    """One dataset: its manifests and its part in the mixture. Keys that concern one clip may stand here, too: this
    dataset then has its own value."""

    train: Path
    """Training manifest, as `cover index` writes it."""
    val: OptionalPath = None
    """Validation manifest. The best checkpoint is chosen by it (`training.best`)."""
    test: OptionalPath = None
    """Test manifest: the default split of `cover evaluate`."""
    clips_of: str | None = None
    """Another dataset, whose manifests have the same samples: this one adds a head with its own labels to each of its
    clips, such as the nouns of EPIC-Kitchens to its verbs. Each head has its loss; `loss_weight` weighs them."""
    head_of: str | None = None
    """Another dataset with the same classes, whose head answers the clips of this one, too: joint training in one label
    space, such as web media with a teacher's labels beside Kinetics (OmniSource)."""
    mirror_pairs: MirrorPairs = ()
    """Pairs of classes that become each other when a clip is mirrored, such as `[["turn left", "turn right"]]`: a
    mirrored clip of one has the label of the other. "auto" pairs classes whose names swap left and right, as three
    pairs of SSv2 do, and refuses a name with left or right that has no partner."""
    num_frames: Positive | None = None
    """Frames of a clip of this dataset, and of what its head is shown in other files; by default `model.num_frames`."""
    max_clips: Positive | None = None
    """Train on this many samples at most, drawn at random, always the same. More of them include all of fewer."""
    rate: Annotated[float, Field(gt=0)] | None = None
    """Share of all clips relative to the other datasets' rates. Set it for all datasets or for none; without rates,
    shares follow `data.rates`."""
    batch_size: Positive | None = None
    """Clips in a step of this dataset, with `data.batches = "one_dataset"`; by default `data.batch_size`."""
    learning_rate_factor: NotNegative = 1.0
    """Factor of the learning rate in steps of this dataset, with `data.batches = "one_dataset"`."""
    loss: Literal["auto", "cross_entropy", "bce"] = "auto"
    """Cross-entropy of one class, or of a distribution over classes if a sample has several; or binary cross-entropy of
    each class, averaged over classes ("bce"). "auto": "bce" if the manifest has lists of labels, else
    "cross_entropy"."""
    class_balanced: bool = False
    """Read all classes equally often, instead of all samples."""
    class_weights: ClassWeights = None
    """Factor of a clip's loss, by its class: "inverse" is in proportion to 1 / n and "inverse_sqrt" to 1 / √n, for n
    training samples of the class, with a mean of 1 over all samples. Or a table, `{ jump = 2.0 }`; classes that it
    leaves out have 1."""
    init_head: str | None = None
    """The head of `init` from which this dataset's head takes the rows of its classes, by name, such as that of
    Kinetics-710 for Kinetics-400. By default the one of the same name."""
    reversal_pairs: tuple[tuple[str, str], ...] = ()
    """Pairs of classes that become each other when a clip plays backwards, for `cover evaluate`."""


class DataSection(ClipData):
    """Batches, and how clips are read."""

    batch_size: Positive = 128
    """Clips per step, over all processes."""
    batches: Literal["mixed", "one_dataset"] = "mixed"
    """What a step holds: clips of all datasets ("mixed", as in the paper), or of one ("one_dataset", as in PolyViT and
    Omnivore). Then datasets take turns in a random order, new in every epoch, in which each has its exact number of
    steps. A dataset may have its own `batch_size` and `learning_rate_factor`."""
    rates: Rates = "proportional"
    """Share of each dataset in all clips: in proportion to its size ("proportional"; paper, §4.1), to the square root
    of its size ("sqrt"), or to size^(1/T) (`{ temperature = T }`); or equal shares ("uniform"). `datasets.NAME.rate`
    sets shares by hand."""
    cache_folder: OptionalPath = None
    """With cache_frames: keep the frames in this folder instead, as memory-mapped files shared by all processes and by
    later runs. Delete the folder when media files change."""
    cache_features: bool = True
    """With policy "probe": compute each clip's feature once, of the centre crop, and keep it. If false, training clips
    are cropped, mirrored and augmented as for other policies, and go through the frozen backbone in every step; this is
    slower, and the head may be attentive."""
    exclude: tuple[Path, ...] = ()
    """CSV lists of training samples to leave out, as `cover check --leaks` writes them."""
    num_workers: Annotated[int, Field(ge=0)] = 8
    """Decoding processes per training process, at most one per core."""
    max_unreadable_share: Share = 0.01
    """The run stops when more than this share of a dataset's samples cannot be decoded."""

    @property
    def temperature(self) -> float:
        """T of `rates`, which are in proportion to size^(1/T)."""
        if isinstance(self.rates, dict):
            return self.rates["temperature"]
        return {"proportional": 1.0, "sqrt": 2.0, "uniform": math.inf}[self.rates]


@cache
def dataset_class() -> type[DatasetSection]:
    """The type of `[datasets.NAME]`: with the keys of ClipSection, None where the dataset has none of its own."""
    own: dict[str, Any] = {}
    homes: dict[str, type[Section]] = {"data": ClipData, "augmentation": ClipAugmentation, "training": ClipLoss}
    for home, kind in homes.items():
        for key, field in kind.model_fields.items():
            meaning = Field(None, description=f"As `{home}.{key}`, for this dataset.")
            own[key] = (field.rebuild_annotation() | None, meaning)
    return create_model(
        "DatasetSection", __base__=DatasetSection, __module__=__name__, __doc__=DatasetSection.__doc__, **own
    )
