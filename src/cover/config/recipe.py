"""A recipe: one TOML file that describes one experiment, checked before any file or device is touched.

    policy = "cotrain"
    init = "runs/pretrain"

    [model]
    variant = "timesformer_large"

    [datasets.k400]
    train = "manifests/k400-train.arrow"
    val = "manifests/k400-val.arrow"

Defaults are the paper's (§4.1); docs/paper.md lists what the paper leaves open. Relative paths start from the folder of
the file that contains them. Paths on the command line, and in the recipes that come with this package, start from the
current folder.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BeforeValidator, Field, PlainValidator, create_model, model_validator

from cover.config.clips import ClipAugmentation, ClipData, ClipLoss, ClipSection, NotNegative
from cover.config.families import DEFAULT, ModelSection, Positive, find_family
from cover.config.layers import Section, Share, checked, map_paths, nested, overlaid, read_layers, with_base
from cover.core.atomic_files import write_whole
from cover.errors import RecipeError

PATH_KEYS = ("init", "data.cache_folder", "data.exclude", "datasets.*.train", "datasets.*.val", "datasets.*.test")
"""Keys of a recipe that hold paths."""
PACKAGED = Path(__file__).resolve().parents[1] / "recipes"

MAX_CLIPS, MAX_CROPS = 1000, 100
"""Views of a sample. The papers of the field take 30 at most; each costs the frames of a clip in memory."""

MIN_TEMPERATURE = 0.1
"""Smallest T of size^(1/T): the 10th power of a size is still a number, and only the largest dataset is left."""
ADAMW_RATE = 1e-4
"""Default learning rate of AdamW; that of SGD is the paper's."""

OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]
"""TOML has no null, so "" also means none: a recipe can remove a path that a part sets."""


def _micro_batches(value: object) -> object:
    if value == "auto" or (type(value) is int and value > 0):
        return value
    raise ValueError('it is a number, at least 1, or "auto"')


MicroBatches = Annotated[
    int | Literal["auto"], PlainValidator(_micro_batches, json_schema_input_type=Positive | Literal["auto"])
]


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


class AugmentationSection(ClipAugmentation):
    """Augmentation of training clips beyond crop and flip. The paper uses none (§4.1)."""

    repeats: Positive = 1
    """How often a sample occurs in its batch, with a new augmentation each time."""


class LoraSection(Section):
    """Low-rank adapters of linear layers, and what else of a frozen backbone learns."""

    rank: Positive = 8
    """Rows and columns of an adapter."""
    alpha: Annotated[float, Field(gt=0)] = 16
    """An adapter is multiplied by alpha / rank."""
    targets: tuple[str, ...] = ("*.qkv",)
    """Patterns of the layers that get an adapter, by default queries, keys and values of every attention."""
    train: tuple[str, ...] = ()
    """Patterns of backbone weights that learn whole, such as temporal layers on an image model."""

    @property
    def scale(self) -> float:
        """The factor of an adapter."""
        return self.alpha / self.rank

    def __str__(self) -> str:
        whole = f"; whole: {', '.join(self.train)}" if self.train else ""
        return f"rank {self.rank}, alpha {self.alpha:g} in {', '.join(self.targets)}{whole}"


class OptimizerSection(Section):
    """Optimizer and learning-rate schedule; the defaults are the paper's SGD (§4.1)."""

    name: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or AdamW with betas 0.9 and 0.999."""
    learning_rate: NotNegative = 5e-3
    """Peak learning rate. AdamW has a default of its own, 1e-4: at 5e-3 it destroys weights that training starts
    from."""
    momentum: Share = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    """Nesterov's form of SGD's momentum, as in TimeSformer's training."""
    weight_decay: NotNegative = 1e-4
    """Weight decay of linear and convolution weights; biases, norms and embeddings have none."""
    decay_all: bool = False
    """Let biases, norms and embeddings decay, too, as in TimeSformer's training."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of each block as a share of the next block's."""
    backbone_rate: Share = 1.0
    """Learning rate of the whole backbone as a share of the heads' rate, beside `layer_decay`. 0 freezes it: no
    backward pass goes through it."""
    fresh_at_full_rate: bool = False
    """Train the weights of the backbone that `init` does not have, such as temporal layers on an image model, at the
    whole rate, whatever `layer_decay` and `backbone_rate` are."""
    freeze: tuple[str, ...] = ()
    """Weights that do not learn, such as `["patch_embed.*", "pos_embed", "blocks.[0-3].*"]`: patterns of names in
    model.safetensors, with * for any characters. No backward pass goes through layers before the first one that
    learns."""
    lora: LoraSection | None = None
    """Freeze the backbone, and train low-rank adapters in it at the full rate (LoRA, Hu et al. 2022), such as
    `{ rank = 8, alpha = 16, targets = ["*.qkv"], train = ["*temporal*"] }`. `targets` are patterns of layers, by
    default queries, keys and values of every attention; `train` are patterns of weights that learn whole, such as
    temporal layers on an image model. An adapter is multiplied by alpha / rank. Checkpoints have the sums, so other
    commands see an ordinary model."""
    schedule: Literal["step", "cosine"] = "step"
    """Drops at drop_epochs, or a cosine down to 0."""
    drop_epochs: tuple[NotNegative, ...] | None = None
    """Completed epochs after which the rate drops (schedule "step"). By default after 11/20 and 15/20 of
    `training.epochs`: 11 and 15 of the paper's 20."""
    drop_factor: Share = 0.1
    """Factor of each drop."""
    warmup_epochs: NotNegative = 0
    """Linear warm-up: the first of its n steps has 1/n of the rate."""
    clip_gradient_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the whole gradient."""
    clip_dataset_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of each dataset's gradient of the weights that datasets share, before they are added."""
    balance: Literal["none", "gradient_norm", "pcgrad"] = "none"
    """How datasets share the backbone's update. "none" adds their gradients. "gradient_norm" brings each to their mean
    norm, times the dataset's `loss_weight` over the mean one. "pcgrad" takes from conflicting gradients the parts along
    each other (PCGrad, Yu et al. 2020). Heads are not affected. Replaces CUDA graphs; not with "fsdp"."""

    @property
    def combines_datasets(self) -> bool:
        """Whether each dataset's gradient is computed by itself in every step."""
        return self.balance != "none" or self.clip_dataset_norm is not None

    def drops(self, num_epochs: float) -> tuple[float, ...]:
        """Completed epochs after which the rate of a run of that many epochs drops; none with a cosine."""
        if self.schedule != "step":
            return ()
        return (num_epochs * 11 / 20, num_epochs * 15 / 20) if self.drop_epochs is None else self.drop_epochs


MEASURE_NAMES = {"top1": "top-1", "top5": "top-5", "mean_class": "mean-class accuracy", "map": "mAP", "loss": "loss"}
"""What validation measures, and how it is written."""


class BestSection(Section):
    """Which checkpoint is the best one, which stands for the run."""

    measure: Literal["top1", "top5", "mean_class", "map", "loss"] = "top1"
    """What validation measures: accuracy, top-5 accuracy, the mean over classes of their accuracies, the mean over
    classes of the average precision (multi-label datasets only; labels of weight 0.5 and more count), or the loss,
    which is best where it is lowest. The logits of a sample's views are averaged."""
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Weights of the datasets in the mean, such as `{ k400 = 2, ssv2 = 1 }`. Datasets that are not named do not count.
    By default, all that have a validation split count alike."""

    def __str__(self) -> str:
        weights = ", ".join(f"{weight:g} {name}" for name, weight in self.weights.items())
        return f"mean {MEASURE_NAMES[self.measure]}" + (f" of {weights}" if weights else "")

    @property
    def phrase(self) -> str:
        """The measure for messages: that of one dataset is no mean. Checkpoints compare runs by `str` instead."""
        return f"{MEASURE_NAMES[self.measure]} of {next(iter(self.weights))}" if len(self.weights) == 1 else str(self)


class TrainingSection(ClipLoss):
    """Length, precision, memory and rhythm of a run."""

    epochs: Annotated[float, Field(gt=0)] = 20
    """Training epochs. An epoch is as many clips as all training sets have together."""
    max_steps: Positive | None = None
    """End the run after this many steps. The learning rate still follows the schedule of `epochs`, so that a run that
    continues with more steps is the same as one without a stop. To shorten the schedule, too, lower `epochs`."""
    precision: Literal["fp32", "bf16", "fp16", "fp8"] = "bf16"
    """Mixed precision on a GPU. A CPU always computes in fp32, which is faster there. "fp8" is experimental: like
    "bf16", but linear layers of the blocks multiply in float8 (compute capability 8.9 or newer)."""
    parallel: Literal["none", "ddp", "fsdp"] = "ddp"
    """How processes share the model: a copy each ("ddp") or a shard each ("fsdp"). "none" refuses several processes."""
    micro_batches: MicroBatches = 1
    """Parts into which each process splits its share of a step, to save memory; "auto" takes as few as fit."""
    activation_checkpointing: Annotated[int, Field(ge=0)] = 0
    """Recompute every n-th block in the backward pass, to save memory; 0 recomputes none."""
    compile: bool = False
    """Use `torch.compile` instead of the library's own kernels."""
    graphs: Literal["auto", "off"] = "auto"
    """CUDA graphs: on a GPU, "auto" records the kernels of a step and replays them in one launch, which makes small
    batches several times as fast. It says so if it cannot: with `compile`, "fsdp", or several machines."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Keep an exponential moving average of the weights, and evaluate and save the average."""
    log_every: Positive = 10
    """Steps between lines of metrics.jsonl."""
    save_every: Positive = 1000
    """Steps between checkpoints."""
    keep_checkpoints: Positive = 2
    """How many of the newest checkpoints to keep. The best one always stays."""
    trackers: tuple[str, ...] = ()
    """Trackers beside metrics.jsonl and TensorBoard, by accelerate's names: "wandb", "mlflow", …"""
    evaluate_every_epochs: Annotated[float, Field(gt=0)] = 1
    """Epochs between validations."""
    measure_gradients_every: Positive | None = None
    """Steps between measurements of each dataset's gradient of the shared weights: its norm, its share of the update,
    and its cosine with the others. A measurement takes about as long as a step, and changes nothing."""
    best: BestSection = BestSection()
    """Which checkpoint is the best one, such as `{ measure = "loss", weights = { k400 = 2, ssv2 = 1 } }`. `measure`:
    "top1", "top5", "mean_class" (the mean over classes of their accuracies), "map" (multi-label) or "loss" (the lowest
    is best) of validation. `weights`: of datasets in the mean; others do not count. By default all count alike."""
    early_stopping: Positive | None = None
    """End the run after this many validations without a better one, by the measure of `best`."""
    reduction: Literal["dataset_mean", "expected_mean", "pooled"] = "dataset_mean"
    """What a dataset's loss is divided by: its clips in the step ("dataset_mean"), the clips expected in a step
    ("expected_mean"), or all clips of the batch ("pooled")."""
    projection_weight: NotNegative = 0.0
    """Weight of the projection loss (MultiTrain takes 1): linear maps predict a clip's class from the logits of the
    other datasets' heads, too, and their mean loss is added to that of its own head. The maps are not part of the
    model. 0 turns it off."""


class EvaluationSection(Section):
    """Views of a sample, whose logits are averaged."""

    num_clips: Annotated[int, Field(ge=1, le=MAX_CLIPS)] = 1
    """Views in time."""
    num_crops: Literal[1, 3] = 3
    """Views in space, along the longer side."""
    batch_size: Positive = 16
    """Samples per batch."""

    def views(self, num_clips: int | None, num_crops: int | None) -> tuple[int, int]:
        """Views of a sample in time and space; None means this recipe's. Raises RecipeError for too many or none."""
        wanted = (
            self.num_clips if num_clips is None else num_clips,
            self.num_crops if num_crops is None else num_crops,
        )
        if not (1 <= wanted[0] <= MAX_CLIPS and 1 <= wanted[1] <= MAX_CROPS):
            raise RecipeError(
                f"{wanted[0]}x{wanted[1]} views; give 1 to {MAX_CLIPS} times of a video and 1 to {MAX_CROPS} crops of "
                "each, such as 4x3"
            )
        return wanted


class Recipe(Section):
    """One experiment."""

    policy: Literal["pretrain", "standard", "cotrain", "probe"]
    """What to train: one dataset ("standard"), several ("cotrain"), images without temporal layers ("pretrain"), or
    heads alone on frozen features of `init` ("probe")."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random."""
    init: str | None = None
    """Weights to start from: a run, a file or folder of foreign weights, or "hf://owner/name". In a file with several
    models, "file.pth#key" chooses one. If `[model]` has neither `family` nor `variant`, it is that of the weights; keys
    that it has override theirs."""
    fresh_heads: bool = False
    """Start every head anew, even if `init` has one for the same dataset. A probe always does."""
    model: ModelSection
    datasets: Annotated[dict[str, DatasetSection], Field(min_length=1)]
    data: DataSection = DataSection()
    augmentation: AugmentationSection = AugmentationSection()
    optimizer: OptimizerSection = OptimizerSection()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.policy == "standard" and len(self.sampled) > 1:
            raise ValueError(f"policy 'standard' trains one dataset, not {len(self.sampled)}; use policy = \"cotrain\"")
        if self.optimizer.warmup_epochs > self.training.epochs and not self.training.max_steps:
            raise ValueError(
                f"optimizer.warmup_epochs = {self.optimizer.warmup_epochs:g} with training.epochs = "
                f"{self.training.epochs:g}; the learning rate would never get to its value: shorten the warm-up"
            )
        if self.optimizer.nesterov and (self.optimizer.name != "sgd" or not self.optimizer.momentum):
            raise ValueError(
                f"optimizer.nesterov changes the momentum of SGD, and this is {self.optimizer.name} with momentum "
                f"{self.optimizer.momentum:g}; leave nesterov out"
            )
        if self.training.parallel == "fsdp" and self.training.precision == "fp16":
            raise ValueError("training.parallel 'fsdp' has no loss scaling for precision 'fp16'; use \"bf16\"")
        if self.training.precision == "fp8" and self.training.compile:
            raise ValueError(
                "training.compile leaves out the library's kernels, and precision 'fp8' needs them; turn compile off, "
                'or use "bf16"'
            )
        if self.data.cache_folder and not any(self.clips(name).cache_frames for name in self.datasets):
            raise ValueError(
                f"data.cache_folder {str(self.data.cache_folder)!r} keeps the frames of data.cache_frames, which is "
                "off; set data.cache_frames = true, or leave the folder out"
            )
        if self.data.batch_size % (repeats := self.augmentation.repeats):
            raise ValueError(
                f"data.batch_size {self.data.batch_size} does not hold every sample {repeats} times "
                f"(augmentation.repeats); make it a multiple of {repeats}"
            )
        return self

    @model_validator(mode="after")
    def _check_shared_clips(self) -> Recipe:
        for name, section in self.datasets.items():
            if section.clips_of is None:
                continue
            if section.clips_of not in self.sampled:
                raise ValueError(
                    f"datasets.{name}.clips_of = {section.clips_of!r} is no other dataset with clips of its own; it "
                    f"is one of {', '.join(self.sampled)}"
                )
            if section.val and not self.datasets[section.clips_of].val:
                raise ValueError(
                    f"datasets.{name}.val has the clips of {section.clips_of}, which names no val; name both or none"
                )
            others = ("num_frames", "max_clips", "rate", "batch_size", "class_balanced", "learning_rate_factor")
            keys = (*ClipData.model_fields, *ClipAugmentation.model_fields, *others)
            if own := [key for key in keys if getattr(section, key, None) != type(section).model_fields[key].default]:
                raise ValueError(
                    f"datasets.{name}.{own[0]} concerns clips, and {name} has those of {section.clips_of}; set it there"
                )
        return self

    @model_validator(mode="after")
    def _check_shared_heads(self) -> Recipe:
        for name, section in self.datasets.items():
            if section.head_of is None:
                continue
            if section.head_of not in self.with_heads:
                raise ValueError(
                    f"datasets.{name}.head_of = {section.head_of!r} is no other dataset with a head of its own; it is "
                    f"one of {', '.join(self.with_heads)}"
                )
            if key := next((key for key in ("val", "test", "init_head") if getattr(section, key)), None):
                raise ValueError(
                    f"datasets.{name}.{key} takes a head of its own, and head_of = {section.head_of!r} gives it "
                    "another's; leave one out"
                )
        return self

    @property
    def with_heads(self) -> tuple[str, ...]:
        """The datasets with heads of their own. Others share them (`head_of`)."""
        return tuple(name for name, section in self.datasets.items() if section.head_of is None)

    def head_of(self, dataset: str) -> str:
        """The dataset whose head answers the clips of a dataset: itself, except for `datasets.NAME.head_of`."""
        section = self.datasets.get(dataset)
        return (section and section.head_of) or dataset

    @property
    def sampled(self) -> tuple[str, ...]:
        """The datasets with clips of their own. Others add heads to them (`clips_of`)."""
        return tuple(name for name, section in self.datasets.items() if section.clips_of is None)

    def clips_of(self, dataset: str) -> str:
        """The dataset whose clips a dataset has: itself, except for `datasets.NAME.clips_of`."""
        section = self.datasets.get(dataset)
        return (section and section.clips_of) or dataset

    def heads_of(self, dataset: str) -> tuple[str, ...]:
        """The datasets that have the clips of a dataset: itself first."""
        return (dataset, *(name for name, section in self.datasets.items() if section.clips_of == dataset))

    @model_validator(mode="after")
    def _check_init(self) -> Recipe:
        named = next((name for name, section in self.datasets.items() if section.init_head), None)
        reasons = {
            "and there is no init; name a run": not self.init,
            "and fresh_heads = true starts all heads anew; leave one of them out": self.fresh_heads,
            "and policy 'probe' starts all heads anew; leave it out": self.policy == "probe",
        }
        if named and (reason := next((reason for reason, holds in reasons.items() if holds), None)):
            raise ValueError(f"datasets.{named}.init_head names a head of init, {reason}")
        return self

    @model_validator(mode="after")
    def _check_batches(self) -> Recipe:
        if self.data.batches == "mixed":
            for name, section in self.datasets.items():
                if section.batch_size is not None or section.learning_rate_factor != 1:
                    key = "learning_rate_factor" if section.batch_size is None else "batch_size"
                    raise ValueError(
                        f"datasets.{name}.{key} is of steps of that dataset alone, and data.batches = 'mixed' has "
                        'none; set data.batches = "one_dataset", or leave it out'
                    )
            return self
        repeats = self.augmentation.repeats
        for name, section in self.datasets.items():
            if section.batch_size is not None and section.batch_size % repeats:
                raise ValueError(
                    f"datasets.{name}.batch_size {section.batch_size} does not hold every sample {repeats} times "
                    f"(augmentation.repeats); make it a multiple of {repeats}"
                )
        if self.training.reduction != "dataset_mean":
            raise ValueError(
                f"training.reduction = {self.training.reduction!r} weighs datasets of one step, and data.batches = "
                "'one_dataset' has one in each; leave reduction out"
            )
        if self.optimizer.balance != "none":
            raise ValueError(
                f"optimizer.balance = {self.optimizer.balance!r} shares a step between datasets, and data.batches = "
                "'one_dataset' has one in each; leave balance out"
            )
        return self

    @model_validator(mode="after")
    def _check_projections(self) -> Recipe:
        weight = self.training.projection_weight
        if weight and self.policy == "probe":
            raise ValueError(
                f"training.projection_weight = {weight:g} trains heads through each other, and policy 'probe' trains "
                "each by itself; leave it out"
            )
        if weight and len(self.with_heads) == 1:
            raise ValueError(
                f"training.projection_weight = {weight:g} maps the classes of other datasets, and there is one; "
                "leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_lora(self) -> Recipe:
        if self.optimizer.lora and (self.policy == "probe" or self.optimizer.backbone_rate == 0):
            frozen = "policy 'probe'" if self.policy == "probe" else "optimizer.backbone_rate = 0"
            raise ValueError(f"optimizer.lora trains adapters in the backbone, and {frozen} freezes it; leave one out")
        return self

    @model_validator(mode="after")
    def _check_fresh(self) -> Recipe:
        section = self.optimizer
        has_effect = self.policy != "probe" and (section.layer_decay < 1 or 0 < section.backbone_rate < 1)
        if section.fresh_at_full_rate and not (self.init and has_effect):
            raise ValueError(
                "optimizer.fresh_at_full_rate keeps layer_decay and backbone_rate from weights that init does not "
                "have; set init and one of these, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_probe(self) -> Recipe:
        if self.policy != "probe":
            if not self.data.cache_features:
                raise ValueError("data.cache_features is a key of policy 'probe'; leave it out")
            return self
        if not self.init:
            raise ValueError("policy 'probe' trains heads on frozen features and has no init; name the run with init")
        if self.keeps_features and self.model.head == "attentive":
            raise ValueError(
                "policy 'probe' keeps one feature per clip, and model.head \"attentive\" learns from all tokens; set "
                "data.cache_features = false"
            )
        if self.keeps_features and (self.augmentation.repeats > 1 or not all(map(self._is_plain, self.datasets))):
            raise ValueError(
                "policy 'probe' computes features once, of unchanged clips; leave out augmentation and "
                "temporal_jitter, or set data.cache_features = false"
            )
        if self.optimizer.backbone_rate not in (0, 1):
            raise ValueError(
                f"policy 'probe' freezes the backbone, and optimizer.backbone_rate = {self.optimizer.backbone_rate:g}; "
                'leave it out, or train with policy "standard" or "cotrain"'
            )
        if self.keeps_features and self.training.precision == "fp8":
            raise ValueError("policy 'probe' trains heads alone, which precision 'fp8' does not change; use \"bf16\"")
        return self

    @model_validator(mode="after")
    def _check_validation(self) -> Recipe:
        validated = [name for name, dataset in self.datasets.items() if dataset.val]
        for name in self.training.best.weights:
            if name not in validated:
                raise ValueError(
                    f"training.best.weights names {name!r}, and validation has {', '.join(validated) or 'no dataset'}; "
                    f"set datasets.{name}.val, or leave the weight out"
                )
        unused = {
            "training.early_stopping": self.training.early_stopping,
            "training.best": self.training.best != BestSection(),
        }
        if not validated and (key := next((key for key, is_set in unused.items() if is_set), None)):
            raise ValueError(
                f"{key} compares validations, and no dataset has a val manifest; name one, or leave {key} out"
            )
        return self

    @model_validator(mode="after")
    def _check_clips(self) -> Recipe:
        for name in self.datasets:
            sides = self.clips(name).short_side
            if sides and sides[0] > sides[1]:
                where = "data" if sides == self.data.short_side else f"datasets.{name}"
                raise ValueError(f"{where}.short_side {list(sides)} is not a range; write [smallest, largest]")
            areas = self.clips(name).random_resized_crop
            if areas and areas[0] > areas[1]:
                where = "augmentation" if areas == self.augmentation.random_resized_crop else f"datasets.{name}"
                raise ValueError(f"{where}.random_resized_crop {list(areas)} is not a range; write [smallest, largest]")
            pairs = self.datasets[name].mirror_pairs
            if pairs and not self.clips(name).horizontal_flip:
                raise ValueError(
                    f"datasets.{name}.mirror_pairs name labels of mirrored clips, and horizontal_flip is off; leave "
                    "one out"
                )
            named = [label for pair in pairs for label in pair] if pairs != "auto" else []
            if repeated := [label for label in named if named.count(label) > 1]:
                raise ValueError(
                    f"datasets.{name}.mirror_pairs names {repeated[0]!r} twice; a class has one mirror image"
                )
        return self

    def clips(self, dataset: str) -> ClipSection:
        """How the training clips of a dataset are made: by its own keys, and by the recipe's where it has none."""
        shared = dict(self.data) | dict(self.augmentation) | dict(self.training)
        section, answered = self.datasets[self.clips_of(dataset)], self.datasets[dataset]
        own = {
            key: getattr(answered if key in ClipLoss.model_fields else section, key, None)
            for key in ClipSection.model_fields
        }
        return ClipSection.model_construct(
            **{key: shared[key] if value is None else value for key, value in own.items()}
        )

    def without_repeats(self) -> Recipe:
        """Return the recipe without keys of datasets that repeat what holds for all, to compare recipes."""
        shared = dict(self.data) | dict(self.augmentation) | dict(self.training)
        datasets = {}
        for name, section in self.datasets.items():
            repeated = [key for key in ClipSection.model_fields if getattr(section, key, None) == shared[key]]
            datasets[name] = section.model_copy(update=dict.fromkeys(repeated))
        return self.model_copy(update={"datasets": datasets})

    def num_frames(self, dataset: str) -> int:
        """Frames of a clip of a dataset of videos. A dataset that the recipe does not name has the model's number."""
        section = self.datasets.get(self.clips_of(dataset))
        return (section and section.num_frames) or self.model.num_frames

    def _is_plain(self, dataset: str) -> bool:
        """Whether training clips are the same every time but for crop and mirroring."""
        clips = self.clips(dataset)
        plain = ClipAugmentation(**{key: getattr(clips, key) for key in ClipAugmentation.model_fields})
        return plain == ClipAugmentation() and not clips.temporal_jitter

    @model_validator(mode="after")
    def _check_dataset_gradients(self) -> Recipe:
        combined, measured = self.optimizer.combines_datasets, self.training.measure_gradients_every is not None
        key = "optimizer.balance and clip_dataset_norm" if combined else "training.measure_gradients_every"
        if (combined or measured) and self.policy == "probe":
            raise ValueError(f"{key}: policy 'probe' trains heads, which datasets do not share; leave them out")
        if (combined or measured) and self.training.parallel == "fsdp":
            raise ValueError(f"{key}: training.parallel 'fsdp' splits gradients over processes; use \"ddp\"")
        if (combined or measured) and self.freezes_backbone and self.model.head == "linear":
            raise ValueError(
                f"{key}: optimizer.backbone_rate = 0 freezes all weights that datasets share; leave them out"
            )
        if self.optimizer.balance != "none" and len(self.datasets) == 1:
            raise ValueError(
                f"optimizer.balance = {self.optimizer.balance!r} shares the update between datasets, and there is one; "
                "leave balance out"
            )
        return self

    @property
    def num_gradients(self) -> int:
        """Gradients that training keeps: one, and under the keys above one for each dataset."""
        by_dataset = self.optimizer.combines_datasets or self.training.measure_gradients_every is not None
        return 1 + by_dataset * len(self.datasets)

    @model_validator(mode="after")
    def _check_sampling(self) -> Recipe:
        rated = [name for name, dataset in self.datasets.items() if dataset.rate is not None]
        if rated and len(rated) < len(self.sampled):
            raise ValueError(f"datasets.{rated[0]} has a rate and others have none; give a rate to all or to none")
        if rated and self.data.rates != "proportional":
            raise ValueError(
                f"datasets.{rated[0]}.rate sets shares by hand, and data.rates = {self.data.rates!r} by size; "
                "leave one of them out"
            )
        for name, section in self.datasets.items():
            if section.loss == "bce" and section.class_weights is not None:
                raise ValueError(
                    f"datasets.{name}.class_weights are factors of cross-entropy, and its loss is 'bce'; leave one out"
                )
            if section.class_balanced and isinstance(section.class_weights, str):
                raise ValueError(
                    f"datasets.{name}.class_balanced and class_weights = {section.class_weights!r} both make up for "
                    "rare classes; leave one of them out"
                )
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process gets plain data: the class is made at run time, for the family of the model.
        return parse_recipe, (self.model_dump(mode="json", exclude_none=True), "a recipe")

    @property
    def media_kind(self) -> Literal["image", "video"] | None:
        """The one kind of media that the policy trains on; None for any."""
        kinds: dict[str, Literal["image", "video"]] = {"pretrain": "image", "standard": "video"}
        return kinds.get(self.policy)

    @property
    def is_standard(self) -> bool:
        """Whether it trains on one dataset alone: the baseline of co-training."""
        return self.policy == "standard"

    @property
    def freezes_backbone(self) -> bool:
        """Whether the backbone keeps its weights."""
        return self.policy == "probe" or self.optimizer.backbone_rate == 0

    @property
    def is_probe(self) -> bool:
        """Whether it trains heads alone, and starts them anew."""
        return self.policy == "probe"

    @property
    def keeps_features(self) -> bool:
        """Whether the backbone's features are computed once, instead of passing clips through it in every step."""
        return self.policy == "probe" and self.data.cache_features

    @property
    def num_workers(self) -> int:
        """Decoding processes: as many as the recipe says, but no more than this machine has cores."""
        return min(self.data.num_workers, os.cpu_count() or 1)

    def write(self, path: Path) -> None:
        """Write the resolved recipe as TOML. Its paths are relative to the file, so that both can be moved together."""
        folder = path.parent.resolve()
        values = map_paths(
            self.model_dump(mode="json", exclude_none=True), PATH_KEYS, lambda name: os.path.relpath(name, folder)
        )
        write_whole(path, tomli_w.dumps(values))


def read_recipe(path: Path, overrides: Sequence[str] = (), *, base: Path | None = None) -> Recipe:
    """Read and check a recipe, and make its paths absolute.

    Args:
        path: The TOML file.
        overrides: "a.b=value", with a TOML value or a bare word for a string. Their paths start from the current
            folder.
        base: Folder that the paths in the file start from; the file's own folder by default.

    Raises:
        RecipeError: With the key, the value and the rule.
    """
    return parse_recipe(read_values(path, overrides, base=base), str(path))


def read_values(path: Path, overrides: Sequence[str] = (), *, base: Path | None = None) -> dict[str, Any]:
    """Read a recipe as plain data with absolute paths, unchecked. Arguments as for `read_recipe`.

    Raises:
        RecipeError: A file is missing or is not TOML.
    """
    values = read_layers(path, lambda layer, file: with_base(layer, PATH_KEYS, base or _base(file)))
    for override in overrides:
        values = overlaid(values, with_base(_parse_override(override), PATH_KEYS, Path()))
    return values


def parse_recipe(values: dict[str, Any], source: str) -> Recipe:
    """Check a recipe given as plain data. source: its name in messages. Raises RecipeError."""
    model = values.get("model")
    name = model.get("family", DEFAULT) if isinstance(model, dict) else DEFAULT
    try:
        family = find_family(str(name))
    except RecipeError as error:
        raise RecipeError(f"{source}: model.family: {error}") from None
    return checked(recipe_class(family.section), _with_rate(values), source)


def _with_rate(values: dict[str, Any]) -> dict[str, Any]:
    """Set the default rate of AdamW. (A validator "before" would see JSON's lists, which are no tuples.)"""
    optimizer = values.get("optimizer")
    if isinstance(optimizer, dict) and optimizer.get("name") == "adamw":
        return overlaid({"optimizer": {"learning_rate": ADAMW_RATE}}, values)
    return values


@cache
def recipe_class(section: type[ModelSection]) -> type[Recipe]:
    """The type of recipes whose `[model]` is that section."""
    default = section.model_validate({})
    dataset: Any = dataset_class()
    sections: dict[str, Any] = {
        "model": (section, default),
        "datasets": (Annotated[dict[str, dataset], Field(min_length=1)], ...),
    }
    return create_model("Recipe", __base__=Recipe, __module__=__name__, __doc__=Recipe.__doc__, **sections)


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


def _base(file: Path) -> Path:
    """The folder that the paths in a recipe start from: the current one for recipes of this package."""
    return Path() if file.resolve().is_relative_to(PACKAGED) else file.parent


def _parse_override(override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override!r} is not of the form key=value; write --set training.epochs=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    return nested(key.strip(), value)
