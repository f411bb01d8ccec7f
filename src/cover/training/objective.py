"""What a run learns: the whole model from clips, or its heads alone from frozen features.

Engine, trainer and checkpoints are the same for every objective. What is particular to one is here: which weights
change, where its batches come from, its loss, and how it is validated.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from cover.config.recipe import Recipe
from cover.core.batch import UNREADABLE, ClipBatch, Features, MixedBatch
from cover.core.run_files import RunFiles
from cover.mixture.mixture import Mixture
from cover.mixture.schedule import Sample
from cover.models.classifier import VideoClassifier
from cover.training.device import Prefetcher, fewest_micro_batches
from cover.training.lora import adapt
from cover.training.loss import head_losses, loss_factors
from cover.training.packed_batch import ONE_CLASS, HeadLoss, PackedBatch, clip_sums
from cover.training.projections import Projections, projected
from cover.training.scores import ScoreSums, validation_scores
from cover.training.trained_weights import freeze

Validate = Callable[[VideoClassifier], dict[str, dict[str, float]]]
"""Scores a model on the validation splits, each process its share: {dataset: `ScoreSums.scores`} of all."""


class StepOutput(NamedTuple):
    """What a micro-batch gave.

    Attributes:
        total: The micro-batch's part of the loss, a scalar.
        sums: Float32 [datasets, 4]: summed cross-entropy, correct answers, readable and unreadable clips of each.
        finite: Bool [B], whether the logits of each clip are finite.
    """

    total: Tensor
    sums: Tensor
    finite: Tensor


class Objective(Protocol):
    """What a run trains and how.

    Attributes:
        takes_clips: Whether steps take clips through the whole model. If not, they take features through the heads;
            they cost next to nothing and are never split.
        validate: Scores a model; None where the recipe names no validation split, and before `prepare`.
        class_weights: {dataset: [classes]} on the host, the factor of a clip's loss by its class, for the datasets that
            have such factors.
        losses: {dataset: its loss}, for the datasets whose loss is not the cross-entropy of one class.
    """

    class_weights: Mapping[str, Tensor]
    losses: Mapping[str, HeadLoss]

    @property
    def takes_clips(self) -> bool: ...

    @property
    def validate(self) -> Validate | None: ...

    def prepare(self, model: VideoClassifier, run: RunFiles, accelerator: Accelerator) -> signal.Signals | None:
        """Do what has to be done once before the first step.

        Args:
            model: On its device, with the weights that training starts from.
            run: The run; what is worth keeping for other runs is kept beside it.
            accelerator: Of this process.

        Returns:
            The signal that interrupted the preparation, or None.
        """

    def num_micro_batches(self, model: VideoClassifier, mixture: Mixture, accelerator: Accelerator) -> int:
        """Into how many parts each process splits its share of a step.

        Args:
            model: On its device, not yet spread over processes.
            mixture: Of this process.
            accelerator: Of this process.

        Raises:
            RecipeError: Not even the smallest part fits into the GPU's memory.
        """

    def module(self, model: VideoClassifier) -> nn.Module:
        """The part of the model that `step` calls, in training mode. Weights that do not learn are frozen.

        Args:
            model: May be on the meta device.

        Raises:
            RecipeError: Keys of the recipe name weights that the model has not, or leave none to train.
        """

    def batches(self, mixture: Mixture, device: torch.device) -> Generator[PackedBatch]:
        """This process's micro-batches, on the device."""

    def step(self, module: nn.Module, batch: PackedBatch) -> StepOutput:
        """The forward pass and the loss of a micro-batch, under autocast."""


@dataclass
class Supervised:
    """Trains all weights on clips, by the weighted cross-entropy over the datasets (paper, §3.3.2), and perhaps by the
    projection loss (see `projections`).

    Args:
        recipe: What to train.
        create_validate: Prepares validation on this process; None where there is no validation split.
        class_weights: {dataset: [classes]} on the host, for the datasets that have them.
        losses: As in Objective.
    """

    takes_clips: ClassVar[bool] = True

    recipe: Recipe
    create_validate: Callable[[Accelerator], Validate] | None = None
    class_weights: Mapping[str, Tensor] = field(default_factory=dict)
    losses: Mapping[str, HeadLoss] = field(default_factory=dict)
    validate: Validate | None = field(default=None, init=False)

    def prepare(self, model: VideoClassifier, run: RunFiles, accelerator: Accelerator) -> None:
        """Prepare validation."""
        self.validate = self.create_validate(accelerator) if self.create_validate else None

    def num_micro_batches(self, model: VideoClassifier, mixture: Mixture, accelerator: Accelerator) -> int:
        """As the recipe says, or as few as fit into the GPU's memory."""
        training = self.recipe.training
        if training.micro_batches != "auto":
            return training.micro_batches
        self.module(model)
        # float32: the gradient; SGD keeps one number a weight, AdamW two; an average one more.
        states = {"sgd": 1, "adamw": 2}[self.recipe.optimizer.name] + (training.ema_decay is not None)
        numbers_a_weight = self.recipe.num_gradients + states
        return fewest_micro_batches(
            model,
            lambda batch: self.step(model, self.pack(batch, accelerator.device)).total,
            mixture.blank_batch,
            most=mixture.schedule.fewest_clips // accelerator.num_processes,
            bytes_per_weight=4 * numbers_a_weight,
            accelerator=accelerator,
        )

    def module(self, model: VideoClassifier) -> nn.Module:
        """The whole model, with adapters, and with projections if the recipe weighs their loss."""
        if self.recipe.training.projection_weight:
            num_classes = {name: len(classes) for name, classes in model.config.heads.items()}
            model.projections = Projections(num_classes, self.recipe.seed).to(model.mean.device)
        if lora := self.recipe.optimizer.lora:
            adapt(model, lora, self.recipe.seed)
        else:
            model.backbone.requires_grad_(not self.recipe.freezes_backbone)
        freeze(model, self.recipe.optimizer.freeze)
        return model.train()

    def batches(self, mixture: Mixture, device: torch.device) -> Generator[PackedBatch]:
        """Decoded clips; each batch is copied while the step before is computed."""
        prefetch = Prefetcher(device, partial(self.pack, device=device))
        with closing(iter(mixture)) as batches:
            for batch in batches:
                yield prefetch(batch)

    def pack(self, batch: MixedBatch, device: torch.device) -> PackedBatch:
        """A batch as `step` takes it."""
        num_targets = max((head.num_targets for head in self.losses.values()), default=0)
        factors = _factors(batch, self.recipe)
        return PackedBatch.of(batch, factors, device, class_weights=self.class_weights, num_targets=num_targets)

    def step(self, module: nn.Module, batch: PackedBatch) -> StepOutput:
        """Clips through the whole model."""
        return _output(module(batch.frames), batch, self.recipe, self.losses)


class FrozenFeatures(NamedTuple):
    """Features of each dataset's training and validation samples."""

    training: Mapping[str, Features]
    validation: Mapping[str, Features]


@dataclass
class Probe:
    """Trains the heads alone, on the features of a frozen backbone (paper, §3.2). Each step is one batch.

    Args:
        recipe: What to train.
        compute_features: Computes the features or reads them, and puts them on the device; or returns the signal that
            interrupted it.
        class_weights: As in Supervised.
        losses: As in Objective.
    """

    takes_clips: ClassVar[bool] = False

    recipe: Recipe
    compute_features: Callable[[VideoClassifier, RunFiles, Accelerator], FrozenFeatures | signal.Signals]
    class_weights: Mapping[str, Tensor] = field(default_factory=dict)
    losses: Mapping[str, HeadLoss] = field(default_factory=dict)
    _features: FrozenFeatures = field(default=FrozenFeatures({}, {}), init=False)

    def prepare(self, model: VideoClassifier, run: RunFiles, accelerator: Accelerator) -> signal.Signals | None:
        """Compute the features that are not there yet."""
        found = self.compute_features(model, run, accelerator)
        if isinstance(found, signal.Signals):
            return found
        self._features = found
        return None

    def num_micro_batches(self, model: VideoClassifier, mixture: Mixture, accelerator: Accelerator) -> int:
        """Features take no memory to speak of."""
        return 1

    def module(self, model: VideoClassifier) -> nn.Module:
        """The heads."""
        model.requires_grad_(False)
        model.heads.requires_grad_(True)
        freeze(model, self.recipe.optimizer.freeze)
        return FeatureHeads(model.heads)

    def batches(self, mixture: Mixture, device: torch.device) -> Generator[PackedBatch]:
        """This process's share of each step of the mixture; nothing is decoded."""
        schedule = mixture.schedule
        for step in range(mixture.step, mixture.step + mixture.num_steps):
            samples = schedule.samples(step)
            by_dataset: dict[str, list[Sample]] = {}
            for sample in samples[mixture.rank :: mixture.world_size]:
                by_dataset.setdefault(sample.dataset, []).append(sample)
            clips, features = {}, {}
            for name, own in by_dataset.items():
                known = self._features.training[name]
                rows = torch.tensor([sample.index for sample in own], device=known.labels_N.device)
                clips[name] = _without_frames(name, known.labels_N[rows], own)
                features[name] = known.features_ND[rows]
                for other in self.recipe.heads_of(name)[1:]:
                    labels = self._features.training[other].labels_N[rows]
                    clips[other] = replace(clips[name], dataset=other, labels=labels)
            batch = MixedBatch(clips, schedule.counts(samples), step, schedule.repeats, mixture.clips_of)
            yield PackedBatch.of(batch, _factors(batch, self.recipe), device, features, self.class_weights)

    def step(self, module: nn.Module, batch: PackedBatch) -> StepOutput:
        """Features through the heads."""
        return _output(module(batch.inputs), batch, self.recipe, self.losses)

    @property
    def validate(self) -> Validate | None:
        """Scores the heads on the features of the validation samples."""
        return self._validate if self._features.validation else None

    @torch.inference_mode()
    def _validate(self, model: VideoClassifier) -> dict[str, dict[str, float]]:
        return validation_scores(
            {
                name: _counted(model.heads[name], known, self.losses.get(name, ONE_CLASS))
                for name, known in self._features.validation.items()
            }
        )


class FeatureHeads(nn.Module):
    """The heads of a model on features. Every head answers every clip."""

    def __init__(self, heads: nn.ModuleDict) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, features_BD: Tensor) -> dict[str, Tensor]:
        """Logits [B, classes] of features [B, D], in float32."""
        with torch.autocast(features_BD.device.type, enabled=False):
            return {name: head(features_BD) for name, head in self.heads.items()}


def _factors(batch: MixedBatch, recipe: Recipe) -> dict[str, float]:
    """What the summed cross-entropy of each dataset is multiplied by, in the order of the recipe."""
    weights = {name: recipe.clips(name).loss_weight for name in recipe.datasets}
    factors = loss_factors(batch, weights, recipe.training.reduction)
    return {name: factors[name] for name in weights}


def _output(
    logits: Mapping[str, Tensor], batch: PackedBatch, recipe: Recipe, kinds: Mapping[str, HeadLoss]
) -> StepOutput:
    heads = [kinds.get(name, ONE_CLASS) for name in batch.datasets]
    if batch.rows is not None:
        logits = {name: values.index_select(0, batch.rows) for name, values in logits.items()}
    owners = [recipe.head_of(name) for name in batch.datasets]
    answers = [logits[owner].float() for owner in owners]
    smoothing = [recipe.clips(name).label_smoothing for name in batch.datasets]

    def summed(number: int, values: Tensor) -> Tensor:
        return head_losses(values, batch.targets(number), heads[number], smoothing[number]).sum()

    losses = torch.stack([summed(number, values) for number, values in enumerate(answers)])
    totals = losses
    if weight := recipe.training.projection_weight:
        by_others = [
            [
                summed(number, logits[projected(source, own)].float())
                for source in dict.fromkeys(owners)
                if source != own
            ]
            for number, own in enumerate(owners)
        ]
        totals = losses + weight * torch.stack([torch.stack(values).mean() for values in by_others])
    return StepOutput((batch.factors * totals).sum(), *clip_sums(answers, losses, batch, heads))


def _without_frames(name: str, labels: Tensor, samples: list[Sample]) -> ClipBatch:
    return ClipBatch(
        dataset=name,
        frames=torch.empty(1, len(samples), 3, 0, 0, dtype=torch.uint8),
        labels=labels,
        sample_ids=tuple(str(sample.index) for sample in samples),
        seeds=torch.zeros(len(samples), dtype=torch.int64),
    )


def _counted(head: nn.Module, known: Features, loss: HeadLoss) -> ScoreSums:
    readable = known.labels_N != UNREADABLE
    logits: Tensor = head(known.features_ND[readable])
    sums = ScoreSums(logits.shape[1], loss)
    sums.add(logits, known.labels_N[readable])
    return sums
