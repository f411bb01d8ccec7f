"""One head on one dataset: every sample once, the logits of its views averaged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from torch import Tensor, from_numpy

from cover.core.progress import track
from cover.errors import DecodeError
from cover.evaluation.metrics import EvalMetrics, pair_partners
from cover.evaluation.result import DatasetResult, EvaluationKey
from cover.evaluation.sample_views import FrameOrder, SampleViews, ViewBatch, view_batches
from cover.media.reader import ClipReader

Predict = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""{dataset: uint8 frames [T,B,C,Y,X]} -> {dataset: float logits [B,classes]}, both on the CPU."""


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
    """Evaluate the head `name` on every sample of `reader`.

    num_clips, num_crops: views of a sample, num_clips times in its video and num_crops along its longer side.
    batch_size: samples a forward pass; each brings num_clips · num_crops clips.
    reversal_pairs: pairs of class names of which one, played backwards, is the other.
    checkpoint: name of the weights, noted in the result.

    Raises RecipeError for a pair of unknown classes, DecodeError when no sample can be decoded, CheckpointError for
    logits that are not finite.
    """
    manifest = reader.manifest
    key = evaluation_key(
        reader, name=name, num_clips=num_clips, num_crops=num_crops, order=order, checkpoint=checkpoint
    )
    tally = EvalMetrics(pair_partners(manifest.class_names, reversal_pairs))
    samples = SampleViews(reader, num_clips, num_crops, order)
    batches = view_batches(samples, batch_size=batch_size, num_workers=num_workers)
    unreadable: dict[str, str] = {}
    start = time.perf_counter()
    for batch in track(batches, f"{name} {manifest.split}, {order}", -(-len(samples) // batch_size), unit="batches"):
        unreadable |= {manifest[index].sample_id: str(error) for index, error in batch.unreadable.items()}
        if batch.indices:
            sample_ids = [row.sample_id for row in manifest.rows(batch.indices)]
            tally.update(sample_ids, *_scored(predict, name, reader, batch))
    if not tally.num_samples:
        raise DecodeError(
            f"{name}: none of its {len(manifest)} {manifest.split} samples can be decoded; "
            f"check the first: {next(iter(unreadable.values()), 'the manifest is empty')}"
        )
    return DatasetResult(
        **vars(key),
        kind=manifest.kind,
        num_unreadable=len(unreadable),
        chance=1 / len(manifest.class_names),
        seconds=time.perf_counter() - start,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        class_names=manifest.class_names,
        unreadable=unreadable,
        **tally.measured(),
    )


def evaluation_key(
    reader: ClipReader, *, name: str, num_clips: int, num_crops: int, order: FrameOrder, checkpoint: str
) -> EvaluationKey:
    """What `evaluate_dataset` with these arguments measures."""
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


def count_correct(
    predict: Predict,
    reader: ClipReader,
    *,
    name: str,
    num_clips: int,
    num_crops: int,
    batch_size: int,
    num_workers: int,
    rows: range,
) -> tuple[int, int]:
    """Of some manifest rows, how many the head `name` gets right (top-1) and how many could be decoded; for processes
    that share an evaluation. Arguments as in `evaluate_dataset`."""
    samples = SampleViews(reader, num_clips, num_crops, "normal", rows)
    right = total = 0
    for batch in view_batches(samples, batch_size=batch_size, num_workers=num_workers) if rows else ():
        if batch.indices:
            logits, labels = _scored(predict, name, reader, batch)
            right += int((logits.argmax(-1) == labels).sum())
            total += len(labels)
    return right, total


def _scored(predict: Predict, name: str, reader: ClipReader, batch: ViewBatch) -> tuple[Tensor, Tensor]:
    """Logits [S,classes] of the samples of a batch, averaged over their views, and their labels."""
    logits = predict({name: batch.frames})[name].unflatten(0, (len(batch.indices), -1)).mean(1)
    return logits, from_numpy(reader.manifest.labels[batch.indices]).long()
