"""Videos and images → their classes in every label space that the model was trained on.

paths ──▶ threads: decode, crop ──▶ batches of files of equal length ──▶ model ──▶ predictions, in the same order
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from cover.core.prefetch import map_ahead
from cover.core.process_pool import available_cpus
from cover.datasets.names import Kind
from cover.errors import DecodeError
from cover.evaluation.metrics import RankedClasses, class_probabilities, top_classes
from cover.inference.views import FileViews, Views

PredictHeads = Callable[[Tensor], dict[str, Tensor]]
"""uint8 frames [T,B,C,Y,X] → {dataset: float logits [B,classes]} of every head, both on the CPU."""


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one file.

    Attributes:
        file: The file.
        kind: "video" or "image".
        heads: (class name, probability) of each head, the most probable class first.
        sigmoid_heads: The heads whose classes each have a probability of their own. Those of other heads add up to 1.
        views: What each head was shown of a video; of an image, its only frame in as many crops.
    """

    file: Path
    kind: Kind
    heads: dict[str, RankedClasses]
    sigmoid_heads: frozenset[str] = frozenset()
    views: Mapping[str, Views] = field(default_factory=dict)


def predict_files(
    predict_heads: PredictHeads,
    files: Iterable[Path],
    *,
    class_names: Mapping[str, Sequence[str]],
    sigmoid_heads: Collection[str] = (),
    views: Mapping[str, Views],
    num_classes_shown: int = 5,
    batch_size: int = 16,
    on_unreadable: Callable[[DecodeError], None] | None = None,
) -> Iterator[Prediction]:
    """Classify files with several heads; logits are averaged over views.

    Args:
        predict_heads: The model.
        files: Videos, images, or folders of frames.
        class_names: The heads to use, and the classes of each in label order.
        sigmoid_heads: The heads whose probabilities are sigmoids.
        views: The views of a file that each head takes. They have the same crops; those that are equal are decoded and
            computed once.
        num_classes_shown: Classes of each head.
        batch_size: Files a batch, with a forward pass for those of equal length; as many more are decoded meanwhile.
        on_unreadable: Called with the error of a file that cannot be decoded, which is then skipped.

    Yields:
        A prediction for each file, in the order of `files`.

    Raises:
        DecodeError: A file cannot be decoded, and there is no `on_unreadable`; the message names the file.
    """

    def read(file: Path) -> dict[Views, FileViews] | DecodeError:
        try:
            return _read(list(dict.fromkeys(views[name] for name in class_names)), file)
        except DecodeError as error:
            return DecodeError(str(error), error.reason)  # a new one: a traceback would keep the frames alive

    outcomes = map_ahead(read, files, num_threads=available_cpus(), num_ahead=batch_size)
    with closing(outcomes):
        while batch := list(islice(outcomes, batch_size)):
            decoded = [outcome for outcome in batch if isinstance(outcome, dict)]
            logits = _classify(predict_heads, [shown for outcome in decoded for shown in outcome.values()])
            for outcome in batch:
                if isinstance(outcome, dict):
                    ranked = {}
                    for name, names in class_names.items():
                        own = logits[id(outcome[views[name]])][name]
                        ranked[name] = top_classes(
                            class_probabilities(own, name in sigmoid_heads), names, num_classes_shown
                        )
                    file, used = next(iter(outcome.values())), {name: views[name] for name in ranked}
                    yield Prediction(file.file, file.kind, ranked, frozenset(sigmoid_heads) & ranked.keys(), used)
                elif on_unreadable is None:
                    raise outcome
                else:
                    on_unreadable(outcome)


def _read(wanted: Sequence[Views], file: Path) -> dict[Views, FileViews]:
    """Decode a file in several ways. An image, which has no times, is the same in all of them."""
    first, *others = wanted
    read = {first: first.read(file)}
    for views in others:
        read[views] = read[first] if read[first].kind == "image" else views.read(file)
    return read


def _classify(predict_heads: PredictHeads, files: Sequence[FileViews]) -> dict[int, dict[str, Tensor]]:
    """Compute the logits [classes] of every head for each file, by its id.

    Files of equal T and V share a forward pass.
    """
    by_shape: dict[tuple[int, ...], dict[int, Tensor]] = {}
    for file in files:
        by_shape.setdefault(tuple(file.frames.shape[:2]), {})[id(file)] = file.frames
    logits: dict[int, dict[str, Tensor]] = {}
    for (_, num_views), frames in by_shape.items():
        heads = predict_heads(torch.cat(list(frames.values()), dim=1))
        means = {name: values.unflatten(0, (-1, num_views)).mean(1) for name, values in heads.items()}
        logits |= {key: {name: mean[place] for name, mean in means.items()} for place, key in enumerate(frames)}
    return logits
