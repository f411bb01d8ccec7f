"""What one evaluation measured, and its file in the run folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cover.evaluation.intervals import Estimate, share
from cover.evaluation.orders import FrameOrder
from cover.whole_files import write_whole


@dataclass(frozen=True)
class Predictions:
    """What was said of each counted sample, in manifest order.

    labels, predicted: of the true class and of the most probable one. probabilities: of the latter, the softmax of the
    logits averaged over views.
    """

    sample_ids: tuple[str, ...]
    labels: tuple[int, ...]
    predicted: tuple[int, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class DatasetResult:
    """One dataset's evaluation in one frame order. Accuracies and chance are fractions.

    views: clips x crops a sample, "1x3"; the logits of a sample's views are averaged.
    num_samples: samples counted; the num_unreadable others are in no accuracy, and `unreadable` gives why, by id.
    top5: None for fewer than 6 classes.
    pair_accuracy: of a clip's own class and that class reversed in time, how often the own one has the larger logit,
        over the num_pair_samples clips whose class is in a pair; chance is 1/2. None without pairs.
    confusion: [true class][predicted class] counts.
    checkpoint: which weights of the run, by folder name.
    predictions: None in files of a version that did not keep them.
    """

    dataset: str
    kind: str
    split: str
    order: FrameOrder
    views: str
    num_frames: int
    num_samples: int
    num_unreadable: int
    chance: float
    top1: float
    top5: float | None
    pair_accuracy: float | None
    num_pair_samples: int
    seconds: float
    checkpoint: str
    class_names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    unreadable: dict[str, str]
    predictions: Predictions | None = None

    @property
    def top1_estimate(self) -> Estimate:
        return share(self.top1, self.num_samples)

    @property
    def pair_estimate(self) -> Estimate | None:
        return None if self.pair_accuracy is None else share(self.pair_accuracy, self.num_pair_samples)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DatasetResult:
        values: dict[str, Any] = json.loads(text)
        values["class_names"] = tuple(values["class_names"])
        values["confusion"] = tuple(tuple(row) for row in values["confusion"])
        if predictions := values.get("predictions"):
            values["predictions"] = Predictions(**{name: tuple(column) for name, column in predictions.items()})
        return cls(**values)

    def save(self, run: Path) -> Path:
        """Write RUN/evaluation/<dataset>-<split>-<order>.json, whole or not at all, and return its path."""
        path = result_file(run, self.dataset, self.split, self.order)
        write_whole(path, self.to_json())
        return path


def result_file(run: Path, dataset: str, split: str, order: FrameOrder) -> Path:
    """Where a run keeps the result of a dataset's split in that frame order."""
    return run / "evaluation" / f"{dataset}-{split}-{order}.json"
