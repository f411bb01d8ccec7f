"""Evaluates one head on one dataset: every sample once, with the logits of its views averaged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from torch import Tensor, from_numpy

from cover.core.progress import track
from cover.errors import DecodeError
from cover.evaluation.metrics import EvalMetrics, pair_partners
from cover.evaluation.result import DatasetResult, EvaluationKey
from cover.evaluation.sample_views import FrameOrder, SampleViews, ViewBatch, view_batches
from cover.media.reader import ClipReader
from cover.training.scores import ScoreSums

Predict = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""{dataset: uint8 frames [T,B,C,Y,X]} → {dataset: float logits [B,classes]}, both on the CPU."""


def evaluate_dataset(
    predict: Predict,
    reader: ClipReader,
    *,
    name: str,
    num_clips: int = 1,
    num_crops: int = 3,
    order: FrameOrder = "normal",
    batch_size: int = 8,
    num_workers: int = 0,
    reversal_pairs: Sequence[tuple[str, str]] = (),
    checkpoint: str = "",
) -> DatasetResult:
    """Evaluate a head on every sample of a dataset.

    Args:
        predict: The model.
        reader: The dataset.
        name: The head.
        num_clips: Clips of a video, spread over its duration.
        num_crops: Crops of a clip, along its longer side.
        order: The frame order of every clip.
        batch_size: Samples a forward pass; each has num_clips · num_crops views.
        num_workers: Processes that decode.
        reversal_pairs: Pairs of classes that become each other when a clip plays backwards.
        checkpoint: Name of the weights, for the result.

    Raises:
        RecipeError: A pair names an unknown class.
        DecodeError: No sample can be decoded.
        CheckpointError: Logits are not finite.
    """
    manifest = reader.manifest
    key = evaluation_key(
        reader, name=name, num_clips=num_clips, num_crops=num_crops, order=order, checkpoint=checkpoint
    )
    metrics = EvalMetrics(pair_partners(manifest.class_names, reversal_pairs))
    samples = SampleViews(reader, num_clips, num_crops, order)
    batches = view_batches(samples, batch_size=batch_size, num_workers=num_workers)
    start = time.perf_counter()
    tracked = track(batches, f"{name} {manifest.split}, {order}", -(-len(samples) // batch_size), unit="batches")
    unreadable = _count(metrics, predict, reader, name, tracked)
    return DatasetResult(
        **vars(key),
        kind=manifest.kind,
        num_unreadable=len(unreadable),
        chance=1 / len(manifest.class_names),
        seconds=time.perf_counter() - start,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        class_names=manifest.class_names,
        unreadable=unreadable,
        **metrics.measured(),
    )


def _count(
    metrics: EvalMetrics, predict: Predict, reader: ClipReader, name: str, batches: Iterable[ViewBatch]
) -> dict[str, str]:
    """Count all batches. Returns the errors of unreadable samples, by id."""
    manifest, unreadable = reader.manifest, dict[str, str]()
    for batch in batches:
        unreadable |= zip(manifest.sample_ids(batch.unreadable), map(str, batch.unreadable.values()), strict=True)
        if batch.indices:
            metrics.update(manifest.sample_ids(batch.indices), *_scored(predict, name, reader, batch))
    if not metrics.num_samples:
        raise DecodeError(
            f"{name}: none of the {len(manifest)} {manifest.split} samples can be decoded; "
            f"check the first one: {next(iter(unreadable.values()), 'the manifest is empty')}"
        )
    return unreadable


def evaluation_key(
    reader: ClipReader, *, name: str, num_clips: int, num_crops: int, order: FrameOrder, checkpoint: str
) -> EvaluationKey:
    """Make the key of the result that `evaluate_dataset` gives with the same arguments."""
    manifest = reader.manifest
    return EvaluationKey(
        dataset=name,
        split=manifest.split,
        order=order,
        views=f"{num_clips}x{num_crops}",
        num_frames=1 if manifest.kind == "image" else reader.num_frames,
        image_size_px=reader.crop_px,
        checkpoint=checkpoint,
        manifest_digest=manifest.digest,
    )


def add_scores(
    sums: ScoreSums,
    predict: Predict,
    reader: ClipReader,
    *,
    name: str,
    num_clips: int,
    num_crops: int,
    batch_size: int,
    num_workers: int,
    rows: range,
) -> None:
    """Count the scores of a head on some manifest rows, for processes that share an evaluation.

    Args are those of `evaluate_dataset`, and:
        sums: What is counted is added to them.
        rows: The manifest rows.
    """
    samples = SampleViews(reader, num_clips, num_crops, "normal", rows)
    for batch in view_batches(samples, batch_size=batch_size, num_workers=num_workers) if rows else ():
        if batch.indices:
            sums.add(*_scored(predict, name, reader, batch))


def _scored(predict: Predict, name: str, reader: ClipReader, batch: ViewBatch) -> tuple[Tensor, Tensor]:
    """The logits [S,classes] of a batch's samples, averaged over their views, and their labels [S]."""
    logits = predict({name: batch.frames})[name].unflatten(0, (len(batch.indices), -1)).mean(1)
    return logits, from_numpy(reader.manifest.labels_of(batch.indices)).long()
