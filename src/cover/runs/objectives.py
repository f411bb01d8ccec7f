"""Which objective a recipe has, and what it is given: validation on clips, or the features of a frozen backbone."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from cover.config.recipe import Recipe
from cover.core.batch import UNREADABLE, Features
from cover.core.run_files import RunFiles
from cover.core.signals import StopSignal
from cover.errors import RecipeError
from cover.evaluation.evaluate import add_scores
from cover.evaluation.sample_views import SampleViews
from cover.inference.feature_store import FeatureStore
from cover.models.classifier import VideoClassifier
from cover.runs.adapters import backbone_digest, evaluation_reader, losses_of, predictor, reader_for
from cover.runs.data import Manifests
from cover.training.loss import class_weights
from cover.training.objective import FrozenFeatures, Objective, Probe, Supervised, Validate
from cover.training.packed_batch import ONE_CLASS
from cover.training.parallel import any_rank_stopped
from cover.training.scores import ScoreSums, validation_scores


def objective_of(recipe: Recipe, training: Manifests, validation: Manifests) -> Objective:
    """Choose the objective of a recipe by its policy.

    Args:
        recipe: What to train.
        training: Manifests by dataset, without excluded samples.
        validation: Manifests of the datasets that have such a split.

    Raises:
        RecipeError: The objective cannot be trained on such data.
    """
    weights, losses = class_weights_of(recipe, training), losses_of(recipe, training)
    if recipe.keeps_features:
        if name := next((name for name, manifest in training.items() if manifest.is_multi_label), None):
            raise RecipeError(
                f"policy 'probe' keeps one class of a sample, and those of {name} have several; set "
                "data.cache_features = false"
            )
        return Probe(recipe, partial(frozen_features, recipe, training, validation), weights, losses)
    return Supervised(recipe, partial(validator, recipe, validation) if validation else None, weights, losses)


def class_weights_of(recipe: Recipe, training: Manifests) -> dict[str, Tensor]:
    """Return the weight of each class, float32 [classes], for the datasets whose classes have weights."""
    weights = {}
    for name, manifest in training.items():
        chosen = recipe.datasets[name].class_weights
        if isinstance(chosen, dict):
            weights[name] = torch.tensor([float(chosen.get(label, 1)) for label in manifest.class_names])
        elif chosen:
            power = {"inverse": 1.0, "inverse_sqrt": 0.5}[chosen]
            weights[name] = class_weights(manifest.labels, len(manifest.class_names), power)
    return weights


def validator(recipe: Recipe, manifests: Manifests, accelerator: Accelerator) -> Validate:
    """A function that scores a model on the validation splits in normal frame order.

    Each process takes every n-th sample. Where the recipe keeps frames, each process decodes all of them now. The
    function raises DecodeError if no sample of a split can be decoded.
    """
    section = recipe.evaluation
    readers = {
        name: evaluation_reader(recipe, manifests[name], name, num_clips=section.num_clips)
        for name in recipe.sampled
        if name in manifests
    }

    losses = losses_of(recipe, manifests)

    def validate(model: VideoClassifier) -> dict[str, dict[str, float]]:
        predict = predictor(model, accelerator.device, accelerator.autocast)
        counted = {
            name: ScoreSums(len(manifest.class_names), losses.get(name, ONE_CLASS))
            for name, manifest in manifests.items()
        }
        for name, reader in readers.items():
            add_scores(
                counted,
                predict,
                reader,
                {head: manifests[head] for head in recipe.heads_of(name) if head in manifests},
                num_clips=section.num_clips,
                num_crops=section.num_crops,
                batch_size=section.batch_size,
                num_workers=recipe.num_workers,
                rows=range(accelerator.process_index, len(reader.manifest), accelerator.num_processes),
            )
        for own in counted.values() if accelerator.num_processes > 1 else ():
            own.sums = accelerator.reduce(own.sums.to(accelerator.device), reduction="sum").cpu()
            own.kept = gather_object(own.kept)
        return validation_scores(counted)

    return validate


def frozen_features(
    recipe: Recipe,
    training: Manifests,
    validation: Manifests,
    model: VideoClassifier,
    run: RunFiles,
    accelerator: Accelerator,
) -> FrozenFeatures | signal.Signals:
    """The features of training and validation samples, on the device; those that are not kept yet are computed.

    A training sample has one view, the centre crop, without augmentation. A validation sample has the recipe's views,
    whose features are averaged; for a linear head that averages their logits.

    Args:
        recipe: Input format, views and batch size.
        training: Manifests by dataset.
        validation: Manifests by dataset.
        model: The backbone, put into evaluation mode.
        run: Beside it the features are kept.
        accelerator: Each process computes its share.

    Returns:
        The features, or the signal that interrupted the computation; what was computed by then is kept.
    """
    store = feature_store(recipe, model.eval(), run.features_folder, accelerator)
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
            for name in (name for name in datasets if name in recipe.sampled):
                store.fill(name, datasets[name], stopping=lambda: stop.requested is not None)
        if stopped := any_rank_stopped(stop.requested, accelerator):
            return stopped
    accelerator.wait_for_everyone()
    device = accelerator.device
    train, val = ({name: features_of(recipe, store, name, split).to(device) for name in split} for split in samples)
    return FrozenFeatures(train, val)


def features_of(recipe: Recipe, store: FeatureStore, name: str, samples: Mapping[str, SampleViews]) -> Features:
    """The features of a dataset, of which a further head on the clips of another has only the labels."""
    owner = recipe.clips_of(name)
    known = store.read(owner, samples[owner])
    if owner == name:
        return known
    labels = torch.tensor(samples[name].reader.manifest.labels, dtype=torch.int64)
    return Features(known.features_ND, torch.where(known.labels_N == UNREADABLE, UNREADABLE, labels))


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
