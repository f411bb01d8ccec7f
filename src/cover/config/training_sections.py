"""`[augmentation]`, `[optimizer]`, `[training]` and `[evaluation]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from cover.config.clips import ClipAugmentation, ClipLoss, NotNegative
from cover.config.families import Positive
from cover.config.layers import Section, Share
from cover.errors import RecipeError

MAX_CLIPS, MAX_CROPS = 1000, 100
"""Views of a sample. The papers of the field take 30 at most; each costs the frames of a clip in memory."""
ADAMW_RATE = 1e-4
"""Default learning rate of AdamW; that of SGD is the paper's."""


def _micro_batches(value: object) -> object:
    if value == "auto" or (type(value) is int and value > 0):
        return value
    raise ValueError('it is a number, at least 1, or "auto"')


MicroBatches = Annotated[
    int | Literal["auto"], PlainValidator(_micro_batches, json_schema_input_type=Positive | Literal["auto"])
]


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
