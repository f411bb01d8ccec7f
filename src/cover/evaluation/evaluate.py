"""Evaluates heads on a dataset: every sample once, with the logits of its views averaged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
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


class Head(NamedTuple):
    """One head of an evaluation.

    Attributes:
        manifest: The labels of the samples.
        reversal_pairs: Pairs of classes that become each other when a clip plays backwards.
        loss: Of the head.
    """

    manifest: Manifest
    reversal_pairs: Sequence[tuple[str, str]] = ()
    loss: HeadLoss = ONE_CLASS


Scored = tuple[Tensor, Tensor, Tensor | None]
"""Logits [S,classes] of a batch's samples, averaged over the views of each; their labels, int64 [S]; and of multi-label
samples how much each class applies, float [S,classes]."""


class Answers(NamedTuple):
    """What a model says about a batch.

    Attributes:
        indices: Manifest rows of the S samples that were decoded.
        scored: What each head says about them.
        unreadable: Why the other samples could not be decoded, by manifest row.
    """

    indices: list[int]
    scored: dict[str, Scored]
    unreadable: dict[int, str]


def evaluate_dataset(
    predict: Predict,
    reader: ClipReader,
    *,
    name: str,
    reversal_pairs: Sequence[tuple[str, str]] = (),
    loss: HeadLoss = ONE_CLASS,
    **options: Any,
) -> DatasetResult:
    """Evaluate a head on every sample of a dataset. Arguments and errors are those of `evaluate_heads` and `Head`.

    Args:
        predict: The model.
        reader: The dataset.
        name: The head.
        reversal_pairs: Of the head.
        loss: Of the head.
        **options: Of the evaluation.
    """
    return evaluate_heads(predict, reader, {name: Head(reader.manifest, reversal_pairs, loss)}, **options)[0]


def evaluate_heads(
    predict: Predict,
    reader: ClipReader,
    heads: Mapping[str, Head],
    *,
    num_clips: int = 1,
    num_crops: int = 3,
    order: FrameOrder = "normal",
    batch_size: int = 8,
    num_workers: int = 0,
    checkpoint: str = "",
    processes: Processes = ALONE,
    logits_folder: Path | None = None,
) -> list[DatasetResult]:
    """Evaluate heads on the same samples, which are decoded once.

    Batches are the same for any number of processes, and so are the logits.

    Args:
        predict: The model.
        reader: The samples.
        heads: By name.
        num_clips: Clips of a video, spread over its duration.
        num_crops: Crops of a clip, along its longer side.
        order: The frame order of every clip.
        batch_size: Samples a forward pass; each has num_clips · num_crops views.
        num_workers: Processes that decode.
        checkpoint: Name of the weights, for the result.
        processes: That share the work. Each returns the whole result.
        logits_folder: Where the first process writes the logits, see logits_file.py; None to keep none.

    Returns:
        The result of each head.

    Raises:
        RecipeError: A pair names an unknown class.
        DecodeError: No sample can be decoded.
        CheckpointError: Logits are not finite.
    """
    views: dict[str, Any] = {"num_clips": num_clips, "num_crops": num_crops, "order": order, "checkpoint": checkpoint}
    keys = {
        name: evaluation_key(replace(reader, manifest=head.manifest), name=name, **views)
        for name, head in heads.items()
    }
    metrics = {
        name: EvalMetrics(pair_partners(head.manifest.class_names, head.reversal_pairs), head.loss)
        for name, head in heads.items()
    }
    samples = SampleViews(reader, num_clips, num_crops, order)
    num_batches, is_first = -(-len(samples) // batch_size), processes.rank == 0
    start = time.perf_counter()
    answers = _answers(predict, heads, samples, batch_size, num_workers, processes)
    title = f"{' and '.join(heads)} {reader.manifest.split}, {order}"
    with _logits_files(logits_folder if is_first else None, keys, heads) as writers:
        tracked = track(answers, title, num_batches, unit="batches", visible=is_first)
        unreadable = _count(metrics, reader.manifest, tracked, writers)
    seconds = time.perf_counter() - start
    return [
        _result(keys[name], head.manifest, metrics[name], unreadable, seconds=seconds) for name, head in heads.items()
    ]


@contextmanager
def _logits_files(
    folder: Path | None, keys: Mapping[str, EvaluationKey], heads: Mapping[str, Head]
) -> Iterator[dict[str, WriteLogits]]:
    """The function that writes each head's logits into a file; none without a folder."""
    with ExitStack() as files:
        yield {
            name: files.enter_context(
                logits_file(folder / keys[name].logits_name, keys[name], head.manifest.class_names, head.loss)
            )
            for name, head in heads.items()
            if folder
        }


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
    predict: Predict,
    heads: Mapping[str, Head],
    samples: SampleViews,
    batch_size: int,
    num_workers: int,
    processes: Processes,
) -> Iterator[Answers]:
    """The answers to the batches of all processes, in manifest order. A process has a batch a round, or none."""
    batches = view_batches(
        samples, batch_size=batch_size, num_workers=num_workers, rank=processes.rank, world_size=processes.size
    )
    manifests = {name: head.manifest for name, head in heads.items()}
    with closing(batches):
        for _ in range(0, len(samples), batch_size * processes.size):
            own = []
            if (batch := next(batches, None)) is not None:
                unreadable = {index: str(error) for index, error in batch.unreadable.items()}
                scored = _scored(predict, manifests, batch) if batch.indices else {}
                own = [Answers(batch.indices, scored, unreadable)]
            yield from processes.gather(own)


def _count(
    metrics: Mapping[str, EvalMetrics],
    manifest: Manifest,
    batches: Iterable[Answers],
    writers: Mapping[str, WriteLogits],
) -> dict[str, str]:
    """Count all batches. Returns the errors of unreadable samples, by id."""
    unreadable, num_samples = dict[str, str](), 0
    for batch in batches:
        unreadable |= zip(manifest.sample_ids(batch.unreadable), batch.unreadable.values(), strict=True)
        sample_ids = manifest.sample_ids(batch.indices)
        num_samples += len(sample_ids)
        for name, scored in batch.scored.items():
            metrics[name].update(sample_ids, *scored)
            if name in writers:
                writers[name](sample_ids, *scored)
    if not num_samples:
        raise DecodeError(
            f"{' and '.join(metrics)}: none of the {len(manifest)} {manifest.split} samples can be decoded; "
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


def _scored(predict: Predict, manifests: Mapping[str, Manifest], batch: ViewBatch) -> dict[str, Scored]:
    """What each head says about the samples of a batch."""
    scored = {}
    for name, logits in predict(dict.fromkeys(manifests, batch.frames)).items():
        manifest = manifests[name]
        classes = torch.from_numpy(manifest.targets_of(batch.indices)) if manifest.is_multi_label else None
        labels = torch.from_numpy(manifest.labels_of(batch.indices)).long()
        scored[name] = logits.unflatten(0, (len(batch.indices), -1)).mean(1), labels, classes
    return scored
