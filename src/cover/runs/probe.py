"""Frozen features of a recipe's datasets: what a linear probe trains and validates its heads on (paper, §3.2)."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from cover.config.recipe import Recipe
from cover.core.signals import StopSignal
from cover.evaluation.sample_views import SampleViews
from cover.models.classifier import VideoClassifier
from cover.probing.features import Features, FeatureStore, backbone_digest
from cover.runs.plan import Manifests
from cover.runs.trained import reader_for
from cover.training.parallel import any_rank_stopped


class FrozenFeatures(NamedTuple):
    """Features of each dataset's training and validation manifest."""

    training: dict[str, Features]
    validation: dict[str, Features]


def frozen_features(
    recipe: Recipe,
    model: VideoClassifier,
    training: Manifests,
    validation: Manifests,
    folder: Path,
    accelerator: Accelerator,
) -> FrozenFeatures | signal.Signals:
    """Features of the training and the validation manifests, on the device; computed where `folder` has them not yet.

    model: put into evaluation mode. Training samples have one view, the centre crop, without augmentation; validation
    samples have the recipe's views, whose features are averaged, which for a linear head averages their logits.
    Returns the signal that interrupted the computation instead; what was computed by then is kept.
    """
    store = feature_store(recipe, model.eval(), folder, accelerator)
    views = recipe.evaluation
    wanted = [(training, 1, 1), (validation, views.num_clips, views.num_crops)]
    samples = [
        {
            name: SampleViews(reader_for(recipe, manifest, name), num_clips, num_crops, "normal")
            for name, manifest in manifests.items()
        }
        for manifests, num_clips, num_crops in wanted
    ]
    with StopSignal() as stop:
        for datasets in samples:
            for name in datasets:
                store.fill(name, datasets[name], stopping=lambda: stop.requested is not None)
        if stopped := any_rank_stopped(stop.requested, accelerator):
            return stopped
    accelerator.wait_for_everyone()
    device = accelerator.device
    train, val = ({name: store.read(name, split[name]).to(device) for name in split} for split in samples)
    return FrozenFeatures(train, val)


def feature_store(recipe: Recipe, model: VideoClassifier, folder: Path, accelerator: Accelerator) -> FeatureStore:
    """Computes features with this model and keeps them in `folder`."""

    def embed(frames_TBCYX: Tensor) -> Tensor:
        with torch.inference_mode(), accelerator.autocast():
            return model.features(frames_TBCYX.to(accelerator.device)).float().cpu()

    return FeatureStore(
        folder,
        embed,
        backbone=backbone_digest(model),
        width=model.backbone.width,
        precision=accelerator.mixed_precision,
        batch_size=recipe.evaluation.batch_size,
        num_workers=recipe.num_workers,
        max_unreadable_share=recipe.data.max_unreadable_share,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
