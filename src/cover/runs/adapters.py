"""A model and a recipe as evaluation and inference take them: functions on frames, and readers of clips."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor

from cover.config.recipe import Recipe
from cover.datasets.manifest import Manifest
from cover.evaluation.evaluate import Predict
from cover.inference.views import Views
from cover.media.cache import FrameCache
from cover.media.reader import ClipReader
from cover.models.classifier import VideoClassifier, head_of
from cover.runs.data import loss_kind, window_of
from cover.training.packed_batch import ONE_CLASS, HeadLoss, LossKind


def predictor(
    model: VideoClassifier, device: torch.device, autocast: Callable[[], AbstractContextManager[None]]
) -> Predict:
    """The model as a function for evaluation: frames on the CPU in, logits on the CPU out."""

    def predict(clips: dict[str, Tensor]) -> dict[str, Tensor]:
        moved = {id(frames): frames.to(device) for frames in clips.values()}  # heads may share them
        with torch.inference_mode(), autocast():
            logits = model({name: moved[id(frames)] for name, frames in clips.items()})
        return {name: values.float().cpu() for name, values in logits.items()}

    return predict


def view_reader(views: Views, manifest: Manifest) -> ClipReader:
    """Clips of a manifest in the length, size and sampling of views."""
    sides_px = views.crop_px, views.crop_px  # of training crops, which it does not make
    return ClipReader(manifest, views.num_frames, views.crop_px, sides_px, horizontal_flip=False, window=views.window)


def reader_for(recipe: Recipe, manifest: Manifest, name: str) -> ClipReader:
    """The views of a manifest in the format of the recipe's model."""
    views = Views(recipe.num_frames(name), recipe.model.image_size, window=window_of(recipe.clips(name)))
    return view_reader(views, manifest)


def evaluation_reader(recipe: Recipe, manifest: Manifest, name: str, *, num_clips: int) -> ClipReader:
    """`reader_for` for repeated evaluation: if the recipe keeps frames, all videos are decoded now.

    Images are not kept, because they decode fast. Nor are videos with several clips or with windows.

    Raises:
        CoverError: As `FrameCache.fill`.
    """
    reader = reader_for(recipe, manifest, name)
    if not recipe.clips(name).cache_frames or num_clips > 1 or manifest.kind == "image" or reader.window:
        return reader
    cache = FrameCache.fill(
        manifest,
        num_frames=reader.num_frames,
        max_short_side_px=reader.crop_px,
        num_processes=recipe.num_workers,
        folder=recipe.data.cache_folder,
    )
    return replace(reader, view_cache=cache)


def head_loss(kind: LossKind, manifest: Manifest) -> HeadLoss:
    """The loss of a head on the samples of a manifest."""
    return HeadLoss(kind, len(manifest.class_names) if manifest.is_multi_label else 0)


def losses_of(recipe: Recipe, manifests: Mapping[str, Manifest]) -> dict[str, HeadLoss]:
    """Return the losses of the datasets whose loss is not the cross-entropy of one class."""
    losses = {}
    for name, manifest in manifests.items():
        losses[name] = head_loss(loss_kind(recipe, name, manifest), manifest)
    return {name: head for name, head in losses.items() if head != ONE_CLASS}


def backbone_digest(model: VideoClassifier) -> str:
    """SHA-256 of what a model's features depend on: architecture, normalisation, and all weights except the heads."""
    config = replace(model.config.with_heads([]), drop_path_rate=0.0).as_dict()
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if not head_of(name):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
