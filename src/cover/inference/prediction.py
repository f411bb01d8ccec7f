"""Videos and images, all heads: what is each called in the label spaces that the model was trained on?

paths ──▶ threads: decode, crop ──▶ batches, over files of equal length ──▶ model ──▶ Predictions, in the same order
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from cover.core.prefetch import map_ahead
from cover.core.process_pool import available_cpus
from cover.datasets.names import Kind
from cover.errors import DecodeError
from cover.evaluation.metrics import RankedClasses, top_classes
from cover.inference.views import FileViews, Views

PredictHeads = Callable[[Tensor], dict[str, Tensor]]
"""uint8 frames [T,B,C,Y,X] -> {dataset: float logits [B,classes]} of every head, both on the CPU."""


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one file, per head."""

    file: Path
    kind: Kind
    heads: dict[str, RankedClasses]


def predict_files(
    predict_heads: PredictHeads,
    files: Iterable[Path],
    *,
    class_names: Mapping[str, Sequence[str]],
    views: Views,
    num_classes_shown: int = 5,
    batch_size: int = 16,
    on_unreadable: Callable[[DecodeError], None] | None = None,
) -> Iterator[Prediction]:
    """Classify files with every head of `class_names`, averaging logits over the views; in the order of `files`.

    class_names: of each head, in label order.
    batch_size: files that are taken together, a forward pass for those of equal length; so many more are decoded
    meanwhile.
    on_unreadable: takes the DecodeError, which names the file, and the file is passed over; without it, it is raised.
    """

    def read(file: Path) -> FileViews | DecodeError:
        try:
            return views.read(file)
        except DecodeError as error:
            return DecodeError(str(error), error.reason)  # anew: without a traceback, which holds on to frames

    outcomes = map_ahead(read, files, num_threads=available_cpus(), num_ahead=batch_size)
    with closing(outcomes):
        while batch := list(islice(outcomes, batch_size)):
            decoded = [outcome for outcome in batch if isinstance(outcome, FileViews)]
            logits = iter(_classify(predict_heads, decoded))
            for outcome in batch:
                if isinstance(outcome, FileViews):
                    scores = next(logits)
                    ranked = {
                        name: top_classes(scores[name], class_names[name], num_classes_shown) for name in class_names
                    }
                    yield Prediction(outcome.file, outcome.kind, ranked)
                elif on_unreadable is None:
                    raise outcome
                else:
                    on_unreadable(outcome)


def _classify(predict_heads: PredictHeads, files: Sequence[FileViews]) -> list[dict[str, Tensor]]:
    """Logits [classes] of every head for each file; one forward pass over all files of the same T and V."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, file in enumerate(files):
        by_shape.setdefault(tuple(file.frames.shape[:2]), []).append(index)
    logits: dict[int, dict[str, Tensor]] = {}
    for (_, num_views), indices in by_shape.items():
        heads = predict_heads(torch.cat([files[index].frames for index in indices], dim=1))
        means = {name: values.unflatten(0, (-1, num_views)).mean(1) for name, values in heads.items()}
        logits |= {index: {name: mean[place] for name, mean in means.items()} for place, index in enumerate(indices)}
    return [logits[index] for index in range(len(files))]
