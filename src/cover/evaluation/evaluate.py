"""Evaluates one head on one dataset: every sample once, with the logits of its views averaged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cover.core.progress import track
from cover.datasets.manifest import Manifest
from cover.errors import DecodeError
from cover.evaluation.logits_file import WriteLogits, logits_file
from cover.evaluation.metrics import EvalMetrics, pair_partners
from cover.evaluation.result import DatasetResult, EvaluationKey
from cover.evaluation.sample_views import FrameOrder, SampleViews, ViewBatch, view_batches
from cover.media.reader import ClipReader
from cover.training.packed_batch import ONE_CLASS, HeadLoss
from cover.training.scores import ScoreSums

Predict = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""{dataset: uint8 frames [T,B,C,Y,X]} → {dataset: float logits [B,classes]}, both on the CPU."""


@dataclass(frozen=True)
class Processes:
    """The processes that share an evaluation. Each takes every n-th batch; all get the answers to all batches.

    Attributes:
        rank: The number of this process.
        size: How many there are.
        gather: Joins the lists of all processes, in the order of their ranks. Each must call it.
    """

    rank: int = 0
    size: int = 1
    gather: Callable[[list[Any]], list[Any]] = list


ALONE = Processes()


class Answers(NamedTuple):
    """What a model says about a batch.

    Attributes:
        indices: Manifest rows of the S samples that were decoded.
        logits: [S,classes], averaged over the views of a sample.
        labels: int64 [S].
        classes: Float [S,classes], how much each class applies, of multi-label samples; else None.
        unreadable: Why the other samples could not be decoded, by manifest row.
    """

    indices: list[int]
    logits: Tensor
    labels: Tensor
    classes: Tensor | None
    unreadable: dict[int, str]


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
    loss: HeadLoss = ONE_CLASS,
    processes: Processes = ALONE,
    logits_folder: Path | None = None,
) -> DatasetResult:
    """Evaluate a head on every sample of a dataset.

    Batches are the same for any number of processes, and so are the logits.

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
        loss: Of the head.
        processes: That share the work. Each returns the whole result.
        logits_folder: Where the first process writes the logits, see logits_file.py; None to keep none.

    Raises:
        RecipeError: A pair names an unknown class.
        DecodeError: No sample can be decoded.
        CheckpointError: Logits are not finite.
    """
    manifest = reader.manifest
    key = evaluation_key(
        reader, name=name, num_clips=num_clips, num_crops=num_crops, order=order, checkpoint=checkpoint
    )
    metrics = EvalMetrics(pair_partners(manifest.class_names, reversal_pairs), loss)
    samples = SampleViews(reader, num_clips, num_crops, order)
    num_batches, is_first = -(-len(samples) // batch_size), processes.rank == 0
    start = time.perf_counter()
    answers = _answers(predict, name, samples, batch_size, num_workers, processes)
    tracked = track(answers, f"{name} {manifest.split}, {order}", num_batches, unit="batches", visible=is_first)
    file = logits_folder / key.logits_name if logits_folder and is_first else None
    with logits_file(file, key, manifest.class_names, loss) if file else nullcontext() as write:
        unreadable = _count(metrics, reader, name, tracked, write)
    return _result(key, manifest, metrics, unreadable, seconds=time.perf_counter() - start)


def _result(
    key: EvaluationKey, manifest: Manifest, metrics: EvalMetrics, unreadable: dict[str, str], *, seconds: float
) -> DatasetResult:
    return DatasetResult(
        **vars(key),
        kind=manifest.kind,
        num_unreadable=len(unreadable),
        chance=1 / len(manifest.class_names),
        seconds=seconds,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        class_names=manifest.class_names,
        unreadable=unreadable,
        **metrics.measured(),
    )


def _answers(
    predict: Predict, name: str, samples: SampleViews, batch_size: int, num_workers: int, processes: Processes
) -> Iterator[Answers]:
    """The answers to the batches of all processes, in manifest order. A process has a batch a round, or none."""
    batches = view_batches(
        samples, batch_size=batch_size, num_workers=num_workers, rank=processes.rank, world_size=processes.size
    )
    with closing(batches):
        for _ in range(0, len(samples), batch_size * processes.size):
            own = []
            if (batch := next(batches, None)) is not None:
                unreadable = {index: str(error) for index, error in batch.unreadable.items()}
                nothing = torch.empty(0), torch.empty(0), None
                scored = _scored(predict, {name: samples.reader.manifest}, batch)[name] if batch.indices else nothing
                own = [Answers(batch.indices, *scored, unreadable)]
            yield from processes.gather(own)


def _count(
    metrics: EvalMetrics, reader: ClipReader, name: str, batches: Iterable[Answers], write: WriteLogits | None
) -> dict[str, str]:
    """Count all batches. Returns the errors of unreadable samples, by id."""
    manifest, unreadable = reader.manifest, dict[str, str]()
    for batch in batches:
        unreadable |= zip(manifest.sample_ids(batch.unreadable), batch.unreadable.values(), strict=True)
        if batch.indices:
            sample_ids = manifest.sample_ids(batch.indices)
            metrics.update(sample_ids, batch.logits, batch.labels, batch.classes)
            if write:
                write(sample_ids, batch.logits, batch.labels, batch.classes)
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
        window=None if reader.window is None or manifest.kind == "image" else str(reader.window),
    )


def add_scores(
    sums: Mapping[str, ScoreSums],
    predict: Predict,
    reader: ClipReader,
    manifests: Mapping[str, Manifest],
    *,
    num_clips: int,
    num_crops: int,
    batch_size: int,
    num_workers: int,
    rows: range,
) -> None:
    """Count the scores of the heads of the same clips on some rows, for processes that share an evaluation.

    Args are those of `evaluate_dataset`, and:
        sums: For each head, what is counted is added to them.
        manifests: For each head, the labels of the reader's samples.
        rows: The manifest rows.
    """
    samples = SampleViews(reader, num_clips, num_crops, "normal", rows)
    for batch in view_batches(samples, batch_size=batch_size, num_workers=num_workers) if rows else ():
        for name, scored in _scored(predict, manifests, batch).items() if batch.indices else ():
            sums[name].add(*scored)


def _scored(
    predict: Predict, manifests: Mapping[str, Manifest], batch: ViewBatch
) -> dict[str, tuple[Tensor, Tensor, Tensor | None]]:
    """For each head, the logits [S,classes] of a batch's samples, averaged over their views, their labels [S], and
    their classes [S,classes] if they have several."""
    scored = {}
    for name, logits in predict(dict.fromkeys(manifests, batch.frames)).items():
        manifest = manifests[name]
        classes = torch.from_numpy(manifest.targets_of(batch.indices)) if manifest.is_multi_label else None
        labels = torch.from_numpy(manifest.labels_of(batch.indices)).long()
        scored[name] = logits.unflatten(0, (len(batch.indices), -1)).mean(1), labels, classes
    return scored
