"""A recipe: one TOML file that describes one experiment, checked before any file or device is touched.

    policy = "cotrain"
    init = "runs/pretrain"

    [model]
    variant = "timesformer_large"

    [datasets.k400]
    train = "manifests/k400-train.arrow"
    val = "manifests/k400-val.arrow"

Defaults are the paper's (§4.1); docs/paper.md lists what the paper leaves open. Relative paths start from the folder of
the file that has them. Those on the command line, and those in the recipes that come with this package, start from the
current folder.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from cover.config.layers import Section, Share, checked, map_paths, nested, overlaid, read_layers, with_base
from cover.core.atomic_files import write_whole
from cover.errors import RecipeError

PATH_KEYS = ("init", "data.cache_folder", "data.exclude", "datasets.*.train", "datasets.*.val", "datasets.*.test")
"""Keys of a recipe that hold paths."""
PACKAGED = Path(__file__).resolve().parents[1] / "recipes"

MAX_CLIPS, MAX_CROPS = 1000, 100
"""Views of a sample. The papers of the field take 30 at most; each costs the frames of a clip in memory."""

Positive = Annotated[int, Field(gt=0)]
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]
"""TOML has no null: "" is none, too, for who lays something over a part that has one."""
NotNegative = Annotated[float, Field(ge=0)]


def _micro_batches(value: object) -> object:
    if value == "auto" or (type(value) is int and value > 0):
        return value
    raise ValueError('it is a number, at least 1, or "auto"')


MicroBatches = Annotated[int | Literal["auto"], PlainValidator(_micro_batches)]


class ModelSection(Section):
    """Architecture; depth, width, num_heads and patch_size override the variant's values.

    attention: of the policies that train on videos; "pretrain" is space-only (paper, Eq. 1).
    """

    variant: Literal["timesformer_tiny", "timesformer_small", "timesformer_base", "timesformer_large"] = (
        "timesformer_base"
    )
    num_frames: Positive = 8
    image_size: Positive = 224
    patch_size: Positive = 16
    depth: Positive | None = None
    width: Positive | None = None
    num_heads: Positive | None = None
    attention: Literal["divided", "joint", "space_only"] = "divided"
    drop_path_rate: Share = 0.1
    image_temporal: Literal["attend", "skip"] = "attend"
    temporal_init: Literal["zero", "random"] = "zero"


class DatasetSection(Section):
    """One dataset: its manifests and how it takes part.

    rate: share of a batch relative to the other datasets' rates; all or none say it. Without rates, shares are
    proportional to size (§4.1). reversal_pairs: pairs of classes that become each other when a clip is reversed.
    """

    train: Path
    val: OptionalPath = None
    test: OptionalPath = None
    loss_weight: NotNegative = 1.0
    horizontal_flip: bool = True
    rate: Annotated[float, Field(gt=0)] | None = None
    reversal_pairs: tuple[tuple[str, str], ...] = ()


class DataSection(Section):
    """Batches and how clips are read.

    short_side: range in pixels to which a frame's shorter side is scaled before the random crop; (256, 320) at
    image_size 224, (448, 512) at 448, in proportion otherwise. cache_frames: decode once, keep frames in memory, those
    of validation videos, too. cache_folder: keep them there instead, as files that all processes map which want the
    same frames of the same samples. Files' contents are not compared: delete the folder when media were replaced or
    mended.
    exclude: lists of training samples to leave out, as `cover check --leaks` writes them.
    """

    batch_size: Positive = 128
    short_side: tuple[Positive, Positive] | None = None
    temporal_jitter: bool = False
    cache_frames: bool = False
    cache_folder: OptionalPath = None
    exclude: tuple[Path, ...] = ()
    num_workers: Annotated[int, Field(ge=0)] = 8
    max_unreadable_share: Share = 0.01


class RandAugmentSection(Section):
    """Operations a clip, 0 for none, and their strength."""

    num_ops: Annotated[int, Field(ge=0)] = 0
    magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0


class AugmentationSection(Section):
    """What is done to training clips beyond crop and flip: nothing by default, as in the paper (§4.1).

    randaugment: { num_ops, magnitude 0 to 10 }; the same for all frames of a clip. mixup, cutmix: α of the Beta(α, α)
    that weights are drawn from, partners being of the same dataset; both: either, by even odds. repeats: how often a
    chosen sample comes in a batch, each time augmented anew. docs/options.md tells more.
    """

    randaugment: RandAugmentSection = RandAugmentSection()
    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0
    repeats: Positive = 1


class OptimizerSection(Section):
    """The paper's SGD (§4.1) by default. weight_decay: of the weights of linear and convolution layers. layer_decay:
    factor of the rate from each block to the one before it. drop_epochs: completed epochs after which the rate is
    multiplied by drop_factor (schedule = "step"); warmup_epochs: linear rise; the first of its n steps has 1/n of the
    rate."""

    name: Literal["sgd", "adamw"] = "sgd"
    learning_rate: NotNegative = 5e-3
    momentum: Share = 0.9
    weight_decay: NotNegative = 1e-4
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    schedule: Literal["step", "cosine"] = "step"
    drop_epochs: tuple[NotNegative, ...] = (10, 14)
    drop_factor: Share = 0.1
    warmup_epochs: NotNegative = 0
    clip_gradient_norm: Annotated[float, Field(gt=0)] | None = None


class TrainingSection(Section):
    """Length, precision and rhythm of a run. max_steps ends it early; log_every and save_every count steps.

    precision: bf16 and fp16 are mixed precision on a GPU; a CPU always computes in fp32, which is faster there.
    parallel: how several processes share a run: each with the whole model ("ddp") or with a part of it ("fsdp");
    "none" refuses to be more than one. docs/training.md tells more.

    To save memory: micro_batches, parts into which each process splits its share of a batch ("auto": as few as fit);
    activation_checkpointing = n, every n-th block keeps only its input and is computed again in the backward pass.
    compile: torch.compile the blocks instead of running our kernels. ema_decay: of the average of the weights that is
    evaluated and kept (EMA). keep_checkpoints: that many of the newest, and the best. trackers: beside metrics.jsonl
    and TensorBoard, by accelerate's names for them ("wandb", "mlflow", "trackio", …).
    reduction: how the losses of a dataset's clips become one: their mean over its clips in the step ("dataset_mean") or
    over the clips expected in a step ("expected_mean"), or their share of the mean over the batch ("pooled").
    label_smoothing: share of each target that goes to all classes alike.
    """

    epochs: Annotated[float, Field(gt=0)] = 20
    max_steps: Positive | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    parallel: Literal["none", "ddp", "fsdp"] = "ddp"
    micro_batches: MicroBatches = 1
    activation_checkpointing: Annotated[int, Field(ge=0)] = 0
    compile: bool = False
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    log_every: Positive = 10
    save_every: Positive = 1000
    keep_checkpoints: Positive = 2
    trackers: tuple[str, ...] = ()
    evaluate_every_epochs: Annotated[float, Field(gt=0)] = 1
    reduction: Literal["dataset_mean", "expected_mean", "pooled"] = "dataset_mean"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class EvaluationSection(Section):
    """Views of a clip whose logits are averaged: num_clips in time × num_crops in space."""

    num_clips: Annotated[int, Field(ge=1, le=MAX_CLIPS)] = 1
    num_crops: Literal[1, 3] = 3
    batch_size: Positive = 16

    def views(self, num_clips: int | None, num_crops: int | None) -> tuple[int, int]:
        """Times and crops of a sample; None stands for this recipe's. Raises RecipeError for too many, and for none."""
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
    """One experiment.

    policy: docs/architecture.md lists them; "probe" trains heads alone, on the frozen features of `init`.
    init: what the weights start from: a run, a file or folder of another code base, or "hf://owner/name"
    (models/sources.py lists the formats). Of a file with several models, "#key" chooses one: "dino.pth#student".
    fresh_heads: start every head anew, even one that `init` has for the same dataset; a probe always does.
    """

    policy: Literal["pretrain", "standard", "cotrain", "probe"]
    seed: Annotated[int, Field(ge=0)] = 0
    init: str | None = None
    fresh_heads: bool = False
    model: ModelSection = ModelSection()
    datasets: Annotated[dict[str, DatasetSection], Field(min_length=1)]
    data: DataSection = DataSection()
    augmentation: AugmentationSection = AugmentationSection()
    optimizer: OptimizerSection = OptimizerSection()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.policy == "standard" and len(self.datasets) > 1:
            raise ValueError(
                f"policy 'standard' trains one dataset, not {len(self.datasets)}; use policy = \"cotrain\""
            )
        if self.optimizer.warmup_epochs > self.training.epochs and not self.training.max_steps:
            raise ValueError(
                f"optimizer.warmup_epochs = {self.optimizer.warmup_epochs:g} with training.epochs = "
                f"{self.training.epochs:g}; the learning rate would never get to its value: shorten the warm-up"
            )
        if self.policy == "probe" and not self.init:
            raise ValueError("policy 'probe' trains heads on frozen features and has no init; name the run with init")
        if self.policy == "probe" and (self.data.temporal_jitter or self.augmentation != AugmentationSection()):
            raise ValueError(
                "policy 'probe' computes features once, of unchanged clips; leave out augmentation and temporal_jitter"
            )
        rated = [name for name, dataset in self.datasets.items() if dataset.rate is not None]
        if rated and len(rated) < len(self.datasets):
            raise ValueError(f"datasets.{rated[0]} has a rate and others have none; give a rate to all or to none")
        if self.training.parallel == "fsdp" and self.training.precision == "fp16":
            raise ValueError("training.parallel 'fsdp' has no loss scaling for precision 'fp16'; use \"bf16\"")
        if self.data.short_side and self.data.short_side[0] > self.data.short_side[1]:
            raise ValueError(f"data.short_side {list(self.data.short_side)} is not a range; write [smallest, largest]")
        if self.data.cache_folder and not self.data.cache_frames:
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

    @property
    def num_workers(self) -> int:
        """Decoding processes: as many as the recipe says, but no more than this machine has cores."""
        return min(self.data.num_workers, os.cpu_count() or 1)

    def write(self, path: Path) -> None:
        """Write the resolved recipe as TOML, its paths relative to the file, so that both can be moved together."""
        folder = path.parent.resolve()
        values = map_paths(
            self.model_dump(mode="json", exclude_none=True), PATH_KEYS, lambda name: os.path.relpath(name, folder)
        )
        write_whole(path, tomli_w.dumps(values))


def read_recipe(path: Path, overrides: Sequence[str] = (), *, base: Path | None = None) -> Recipe:
    """Read and check a recipe; its paths come out absolute.

    Args:
        path: The TOML file.
        overrides: Of the form "a.b=value", with TOML values; a bare word is a string. Paths in them start from the
            current folder.
        base: Folder that the paths in the file start from, if not the file's own.

    Raises:
        RecipeError: Names the key, the value and the rule.
    """
    values = read_layers(path, lambda layer, file: with_base(layer, PATH_KEYS, base or _base(file)))
    for override in overrides:
        values = overlaid(values, with_base(_parse_override(override), PATH_KEYS, Path()))
    return parse_recipe(values, str(path))


def parse_recipe(values: dict[str, Any], source: str) -> Recipe:
    """Check a recipe given as plain data. source: its name in messages. Raises RecipeError."""
    return checked(Recipe, values, source)


def _base(file: Path) -> Path:
    """The folder that the paths in a recipe start from. No data lie beside the recipes of this package."""
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
