"""The result of one evaluation, and its file in the run folder."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

from pydantic import FailFast, Field, TypeAdapter, ValidationError

from cover.config.layers import Share
from cover.core.atomic_files import write_whole
from cover.core.text_files import read_text
from cover.datasets.names import Kind
from cover.errors import CheckpointError
from cover.evaluation.intervals import Estimate, share
from cover.evaluation.sample_views import FrameOrder

MAX_RESULT_BYTES = 2**30
"""Largest result file that is read; a million samples take about 80 MiB."""
MAX_NAME_BYTES = 80

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
Column = Annotated[tuple[Count, ...], FailFast()]


@dataclass(frozen=True, kw_only=True)
class EvaluationKey:
    """Everything that a result depends on. Results that differ in any of it have separate files.

    Attributes:
        views: Clips × crops of a sample, such as "1x3"; the logits of a sample's views are averaged.
        num_frames: Frames of a clip.
        image_size_px: Side of a frame; None in files of older versions.
        checkpoint: Folder name of the weights.
        manifest_digest: `Manifest.digest` of the samples; None in files of older versions.
        window: The part of a video that a clip shows, such as "window_seconds = 4"; None is all of it.
    """

    dataset: str
    split: str
    order: FrameOrder
    views: Annotated[str, Field(pattern=r"^\d{1,9}x\d{1,9}$")]
    num_frames: Positive
    checkpoint: str
    image_size_px: Positive | None = None
    manifest_digest: str | None = None
    window: str | None = None

    @property
    def file_name(self) -> str:
        """The name of the result's file: DATASET-SPLIT-ORDER-VIEWS-FRAMESxSIZE-CHECKPOINT-HASH.json.

        Names are shortened to what every file system accepts. The hash covers the whole key, so results have separate
        files even if their shortened names are equal or they differ in the manifest only.
        """
        key = [getattr(self, field.name) for field in fields(EvaluationKey)]
        key = key if self.window else key[:-1]  # older results had none
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:8]
        size = f"{self.num_frames}x{self.image_size_px}"
        parts = (_plain(self.dataset), self.split, self.order, self.views, size, _plain(self.checkpoint), digest)
        return f"{'-'.join(parts)}.json"

    @property
    def logits_name(self) -> str:
        """The name of the file with the logits, if they are kept."""
        return f"{self.file_name.removesuffix('.json')}-logits.parquet"


@dataclass(frozen=True)
class Predictions:
    """The prediction for each counted sample, in manifest order.

    Attributes:
        labels: Labels of the true classes; of several classes of a sample, the one with the largest logit.
        predicted: Labels of the most probable classes.
        probabilities: Of the most probable classes: the softmax of the logits averaged over views, or their sigmoid if
            the loss is "bce".
    """

    sample_ids: Annotated[tuple[str, ...], FailFast()]
    labels: Column
    predicted: Column
    probabilities: Annotated[tuple[Share, ...], FailFast()]


@dataclass(frozen=True, kw_only=True)
class DatasetResult(EvaluationKey):
    """The result of evaluating one dataset in one frame order. Accuracies and chance are fractions.

    Attributes:
        num_samples: Counted samples.
        num_unreadable: Samples that could not be decoded; they are in no accuracy.
        unreadable: Why not, by sample id.
        top5: None for fewer than 6 classes.
        mean_class: The mean over classes of their accuracies; None in files of older versions.
        mean_average_precision: The mean over classes of the average precision; None if samples have one class.
        loss: The mean loss in nats; None in files of older versions.
        pair_accuracy: The reversal accuracy: how often a clip's class has a larger logit than that class reversed in
            time, over the clips whose class is in a reversal pair. Chance is 1/2. None without pairs.
        num_pair_samples: The number of these clips.
        seconds: Duration of the evaluation.
        finished: Its end in UTC, "2025-01-31T12:00:00+00:00"; "" in files of older versions.
        predictions: None in files of older versions, which have `confusion` instead.
        confusion: Counts [true class][predicted class]. It grows with the square of the number of classes, so it is
            only read, never written.
    """

    kind: Kind
    num_samples: Positive
    num_unreadable: Count
    chance: Share
    top1: Share
    top5: Share | None
    pair_accuracy: Share | None
    num_pair_samples: Count
    seconds: float
    class_names: Annotated[tuple[str, ...], Field(min_length=1), FailFast()]
    unreadable: dict[str, str]
    mean_class: Share | None = None
    mean_average_precision: Share | None = None
    loss: Annotated[float, Field(ge=0)] | None = None
    finished: str = ""
    predictions: Predictions | None = None
    confusion: tuple[Column, ...] | None = None

    @property
    def top1_estimate(self) -> Estimate:
        """The top-1 with its 95 % interval."""
        return share(self.top1, self.num_samples)

    @property
    def pair_estimate(self) -> Estimate | None:
        """The reversal accuracy with its 95 % interval."""
        return None if self.pair_accuracy is None else share(self.pair_accuracy, self.num_pair_samples)

    def to_json(self) -> str:
        """The content of the result's file."""
        values = _RESULT.dump_python(self, mode="json", exclude={"confusion"} if self.predictions else None)
        return json.dumps(values)

    def save(self, folder: Path) -> Path:
        """Write the result into a folder; the file appears whole or not at all.

        Returns:
            The file.

        Raises:
            CoverError: It cannot be written.
        """
        path = folder / self.file_name
        write_whole(path, self.to_json())
        return path


_RESULT = TypeAdapter(DatasetResult)


def read_result(file: Path) -> DatasetResult:
    """Read a result that this version or an older one has written.

    Raises:
        CheckpointError: The file is damaged or is not a result.
    """
    try:
        result = _RESULT.validate_json(read_text(file, max_bytes=MAX_RESULT_BYTES), strict=True)
        _check(result)
        return replace(result, confusion=None) if result.predictions else result
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = str(error)
    raise CheckpointError(f"{file} is damaged ({reason}); delete it and evaluate the run again")


def _check(result: DatasetResult) -> None:
    """Raise ValueError if columns of a result contradict each other."""
    num_classes = len(result.class_names)
    if predictions := result.predictions:
        if set(map(len, vars(predictions).values())) != {result.num_samples}:
            raise ValueError(f"the columns of predictions do not have {result.num_samples} samples each")
        if max(max(predictions.labels), max(predictions.predicted)) >= num_classes:
            raise ValueError(f"predictions have a label beyond its {num_classes} classes")
    elif result.confusion is None or {len(result.confusion), *map(len, result.confusion)} != {num_classes}:
        raise ValueError(f"it has neither predictions nor a confusion matrix of its {num_classes} classes")
    if result.pair_accuracy is not None and not result.num_pair_samples:
        raise ValueError("it has a pair_accuracy of no samples")


def _plain(name: str) -> str:
    """Make a name fit for a file name."""
    return re.sub(r"[^\w-]+", "_", name).encode()[:MAX_NAME_BYTES].decode(errors="ignore")
