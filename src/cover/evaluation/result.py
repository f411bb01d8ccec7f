"""What one evaluation measured, and its file in the run folder."""

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
"""Largest result file that is read; a result of a million samples takes about 80 MiB."""
MAX_NAME_BYTES = 80

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
Column = Annotated[tuple[Count, ...], FailFast()]


@dataclass(frozen=True, kw_only=True)
class EvaluationKey:
    """Everything that a result depends on. Results that differ in any of it are kept in files of their own.

    views: clips × crops of a sample, "1x3"; the logits of a sample's views are averaged.
    num_frames, image_size_px: of the clips as the model sees them.
    checkpoint: which weights of the run, by folder name.
    manifest_digest: of the samples, as `Manifest.digest`.

    Older versions kept neither image_size_px nor manifest_digest; None means unknown.
    """

    dataset: str
    split: str
    order: FrameOrder
    views: Annotated[str, Field(pattern=r"^\d{1,9}x\d{1,9}$")]
    num_frames: Positive
    checkpoint: str
    image_size_px: Positive | None = None
    manifest_digest: str | None = None

    @property
    def file_name(self) -> str:
        """The name of the result's file: DATASET-SPLIT-ORDER-VIEWS-FRAMESxSIZE-CHECKPOINT-HASH.json.

        The names in it are shortened to what every file system accepts. The hash of the whole key keeps two results
        apart whose names come out the same, or which differ in their manifest alone.
        """
        key = tuple(getattr(self, field.name) for field in fields(EvaluationKey))
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:8]
        size = f"{self.num_frames}x{self.image_size_px}"
        parts = (_plain(self.dataset), self.split, self.order, self.views, size, _plain(self.checkpoint), digest)
        return f"{'-'.join(parts)}.json"


@dataclass(frozen=True)
class Predictions:
    """The prediction for each counted sample, in manifest order.

    labels, predicted: labels of the true class and of the most probable one. probabilities: of the latter, from the
    softmax of the logits averaged over views.
    """

    sample_ids: Annotated[tuple[str, ...], FailFast()]
    labels: Column
    predicted: Column
    probabilities: Annotated[tuple[Share, ...], FailFast()]


@dataclass(frozen=True, kw_only=True)
class DatasetResult(EvaluationKey):
    """One dataset's evaluation in one frame order. Accuracies and chance are fractions.

    num_samples: samples counted; the num_unreadable others are in no accuracy, and `unreadable` gives why, by id.
    top5: None for fewer than 6 classes.
    pair_accuracy: of a clip's own class and that class reversed in time, how often the own one has the larger logit,
        over the num_pair_samples clips whose class is in a pair; chance is 1/2. None without pairs.
    finished: when, in UTC, as "2025-01-31T12:00:00+00:00"; "" in files of older versions.
    predictions: None in files of a version that did not keep them; these have `confusion` instead.
    confusion: [true class][predicted class] counts, where there are no predictions, which say the same. It grows with
        the square of the number of classes, so it is only read.
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
    finished: str = ""
    predictions: Predictions | None = None
    confusion: tuple[Column, ...] | None = None

    @property
    def top1_estimate(self) -> Estimate:
        return share(self.top1, self.num_samples)

    @property
    def pair_estimate(self) -> Estimate | None:
        return None if self.pair_accuracy is None else share(self.pair_accuracy, self.num_pair_samples)

    def to_json(self) -> str:
        values = _RESULT.dump_python(self, mode="json", exclude={"confusion"} if self.predictions else None)
        return json.dumps(values)

    def save(self, folder: Path) -> Path:
        """Write the result into a folder, whole or not at all, and return its path. Raises CoverError."""
        path = folder / self.file_name
        write_whole(path, self.to_json())
        return path


_RESULT = TypeAdapter(DatasetResult)


def read_result(file: Path) -> DatasetResult:
    """Read a result, of this version or an older one. Raises CheckpointError where it is damaged or no result."""
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
    raise CheckpointError(f"{file} is damaged ({reason}); delete it, and evaluate the run again")


def _check(result: DatasetResult) -> None:
    """Raise ValueError where columns of a result contradict each other."""
    num_classes = len(result.class_names)
    if predictions := result.predictions:
        if set(map(len, vars(predictions).values())) != {result.num_samples}:
            raise ValueError(f"predictions are not those of {result.num_samples} samples")
        if max(max(predictions.labels), max(predictions.predicted)) >= num_classes:
            raise ValueError(f"predictions name a label beyond its {num_classes} classes")
    elif result.confusion is None or {len(result.confusion), *map(len, result.confusion)} != {num_classes}:
        raise ValueError(f"it has neither predictions nor the confusion of its {num_classes} classes")
    if result.pair_accuracy is not None and not result.num_pair_samples:
        raise ValueError("pair_accuracy is that of no sample")


def _plain(name: str) -> str:
    """A name as part of a file name."""
    return re.sub(r"[^\w-]+", "_", name).encode()[:MAX_NAME_BYTES].decode(errors="ignore")
