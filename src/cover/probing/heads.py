"""Training of heads on frozen features: batches, engine and validation that take the place of those of whole models."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from cover.config.recipe import Recipe
from cover.core.batch import UNREADABLE, ClipBatch, MixedBatch
from cover.mixture.mixture import Mixture
from cover.mixture.schedule import Sample
from cover.models.classifier import VideoClassifier
from cover.probing.features import Features
from cover.training.ema import ModelEMA
from cover.training.engine import Engine
from cover.training.optimizer import create_optimizer
from cover.training.parallel import replicate
from cover.training.trainer import Validate


@dataclass(frozen=True, repr=False)
class FeatureBatch(ClipBatch):
    """Clips whose features [B,D] are known, so that their frames are left out (0 × 0 pixels)."""

    features_BD: Tensor = field(default_factory=lambda: torch.empty(0))

    def to(self, device: torch.device) -> FeatureBatch:
        """The same on another device."""
        return replace(self, labels=self.labels.to(device), features_BD=self.features_BD.to(device))

    @property
    def _tensors(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in super()._tensors.items() if name != "features_BD"}


def feature_batches(mixture: Mixture, features: Mapping[str, Features]) -> Generator[MixedBatch]:
    """This process's share of every step of the mixture, one batch a step; nothing is decoded."""
    for step in range(mixture.step, mixture.step + mixture.num_steps):
        samples = mixture.schedule.samples(step)
        by_dataset: dict[str, list[Sample]] = {}
        for sample in samples[mixture.rank :: mixture.world_size]:
            by_dataset.setdefault(sample.dataset, []).append(sample)
        clips: dict[str, ClipBatch] = {name: _batch(name, features[name], own) for name, own in by_dataset.items()}
        yield MixedBatch(clips, mixture.schedule.counts(samples), step, mixture.schedule.repeats)


def _batch(name: str, features: Features, samples: list[Sample]) -> FeatureBatch:
    rows = torch.tensor([sample.index for sample in samples], device=features.labels_N.device)
    return FeatureBatch(
        dataset=name,
        frames=torch.empty(1, len(rows), 3, 0, 0, dtype=torch.uint8),
        labels=features.labels_N[rows],
        sample_ids=tuple(str(sample.index) for sample in samples),
        seeds=torch.zeros(len(rows), dtype=torch.int64),
        features_BD=features.features_ND[rows],
    )


class Heads(nn.Module):
    """The heads of a model, which answer for every dataset as the model does, in float32."""

    def __init__(self, model: VideoClassifier) -> None:
        super().__init__()
        self.heads = model.heads

    def forward(self, batch: MixedBatch) -> dict[str, Tensor]:
        nothing = next(self.parameters()).new_zeros(0, next(self.parameters()).shape[-1])
        with torch.autocast(nothing.device.type, enabled=False):
            return {name: head(_features(batch, name, nothing)) for name, head in self.heads.items()}


def _features(batch: MixedBatch, name: str, nothing: Tensor) -> Tensor:
    clips = batch.get(name)
    return clips.features_BD if isinstance(clips, FeatureBatch) else nothing


class HeadEngine(Engine):
    """An engine that trains the heads alone. A checkpoint of it holds the whole model all the same."""

    def __init__(self, model: VideoClassifier, recipe: Recipe, accelerator: Accelerator) -> None:
        self.model = model.to(accelerator.device).eval()
        self.recipe = recipe
        self.accelerator = accelerator
        self.wrapped = replicate(Heads(model), accelerator)
        self.optimizer = accelerator.prepare(create_optimizer(model.heads, recipe.optimizer))
        decay = recipe.training.ema_decay
        self.average = None if decay is None else ModelEMA(model, decay)
        self._weights = {name: dataset.loss_weight for name, dataset in recipe.datasets.items()}


def feature_validator(features: Mapping[str, Features]) -> Validate:
    """A function that scores a model's heads on the features of the validation splits."""

    @torch.inference_mode()
    def validate(model: VideoClassifier) -> dict[str, dict[str, float]]:
        return {name: {"top1": _top1(model.heads[name], features[name])} for name in features}

    return validate


def _top1(head: nn.Module, features: Features) -> float:
    readable = features.labels_N != UNREADABLE
    answers = head(features.features_ND[readable]).argmax(-1)
    return float((answers == features.labels_N[readable]).double().mean())
