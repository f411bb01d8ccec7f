"""What the server does with a file, apart from HTTP: it decodes the file, asks the model, and makes an answer."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from types import TracebackType
from typing import BinaryIO, Self

import torch

from cover.evaluation.metrics import class_probabilities, top_classes
from cover.inference.explain import FileClip, Sensitivity, label_of
from cover.inference.explanation_files import JSON_FILE, STRIP_FILE, VIDEO_FILE, write_explanation
from cover.inference.timeline import find_timeline
from cover.inference.timeline_files import timeline_json
from cover.inference.views import Views
from cover.inference.windows import WindowFormat
from cover.runs.model import OpenModel
from cover.serving.admission import Metrics
from cover.serving.batching import Batcher
from cover.serving.decoding import DecodedUpload, Decoder, Job
from cover.serving.limits import UploadLimits
from cover.serving.schemas import ClassProbability, ExplanationBody, PredictionBody, SensitivityBody, TimelineBody

UPLOAD = "upload"
"""The name of every upload: the names that users give are not read."""


class Service:
    """A model that answers for any number of threads. Use it as a context manager, which ends its processes.

    Methods raise UploadRejected for a file that is refused, and CoverError for an unknown head or class.

    Args:
        trained: The model.
        limits: What one upload may take.
        num_processes: Processes that decode uploads.
        metrics: Counts forward passes, and the seconds of each stage of a prediction.
    """

    def __init__(self, trained: OpenModel, limits: UploadLimits, *, num_processes: int, metrics: Metrics) -> None:
        trained.class_names()  # or refuse a model without classes
        self.trained, self.limits = trained, limits
        self._metrics = metrics
        self._views = trained.evaluation
        self._folder = TemporaryDirectory(prefix="cover-serve-", ignore_cleanup_errors=True)  # first: it may fail
        self._decode = Decoder(limits, num_processes)
        self._model = Batcher(self._predict_heads, self._views.batch_size, metrics.batch_clips.observe)
        self._long_work = Lock()  # one timeline or explanation at a time: they hold many frames

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._model.close()
        self._decode.close()
        self._folder.cleanup()

    def shown(self) -> list[str]:
        """What heads are shown of a video, a line for each, if it is not the whole video for all of them."""
        views = {head: self._views_of(head) for head in self.trained.class_names()}
        return [f"{head}: {own}" for head, own in views.items()] if any(own.window for own in views.values()) else []

    def predict(self, upload: BinaryIO, heads: Sequence[str], top: int) -> PredictionBody:
        """Find the `top` classes of each of `heads`, or of every head, over the recipe's views."""
        class_names = self.trained.class_names(heads)
        with self._metrics.stage_seconds.labels("decode").time(), self._file(upload) as file:
            views = {head: self._views_of(head) for head in class_names}
            decoded = self._decoded(file, views.values())
        with self._metrics.stage_seconds.labels("model").time():
            answers = {wanted: self._model(torch.from_numpy(one.frames)) for wanted, one in decoded.items()}
            logits = {head: answers.get(wanted, next(iter(answers.values())))[head] for head, wanted in views.items()}
        sigmoid_heads = self.trained.model.config.sigmoid_heads
        ranked = {
            head: top_classes(class_probabilities(logits[head].mean(0), head in sigmoid_heads), names, top)
            for head, names in class_names.items()
        }
        first = next(iter(decoded.values()))
        return PredictionBody(
            kind=first.kind,
            duration_seconds=first.duration_seconds,
            heads={
                head: [
                    ClassProbability(class_name=class_name, probability=probability)
                    for class_name, probability in classes
                ]
                for head, classes in ranked.items()
            },
        )

    def timeline(
        self, upload: BinaryIO, heads: Sequence[str], window_seconds: float | None, top: int, threshold: float
    ) -> TimelineBody:
        """Find what a video shows and when, as `cover timeline` does; the arguments are those of `find_timeline`."""
        class_names, config = self.trained.class_names(heads), self.trained.model.config
        seconds = window_seconds or self.trained.window_seconds(heads)
        window = WindowFormat(config.num_frames, config.image_size_px, seconds, seconds / 4)
        with self._long_work:
            with self._file(upload) as file:
                decoded = self._decode(Job(file, window))
            timeline = find_timeline(
                self._model,
                Path(UPLOAD),
                frames=decoded,
                class_names=class_names,
                sigmoid_heads=self.trained.model.config.sigmoid_heads,
                window=window,
                top=top,
                threshold=threshold,
                batch_size=self._views.batch_size,
            )
        return TimelineBody(**json.loads(timeline_json(timeline)))

    def explain(self, upload: BinaryIO, head: str, class_name: str | None) -> ExplanationBody:
        """Find what spoke for a class, as `cover explain` does."""
        class_names = self.trained.class_names([head])[head]
        if class_name is not None:
            label_of(class_name, class_names, head)
        views = self.trained.views(head)
        with self._long_work:
            with self._file(upload) as file:
                decoded = self._decode(Job(file, views))
            times = views.times_seconds(decoded.info) if decoded.kind == "video" else None
            clip = FileClip(Path(UPLOAD), decoded.kind, torch.from_numpy(decoded.frames[:, 0]), times)
            with self._model.model_lock:
                explanation = self.trained.explain(clip, head, class_name)
            with TemporaryDirectory(dir=self._folder.name) as folder:
                files = write_explanation(explanation, Path(folder), with_headline=False)
                pictures = {path.name: path.read_bytes() for path in files}
        del pictures[JSON_FILE]
        encoded = {name: base64.b64encode(picture).decode() for name, picture in pictures.items()}
        return ExplanationBody(
            kind=explanation.kind,
            head=head,
            class_name=explanation.class_name,
            probability=explanation.probability,
            predicted=explanation.predicted,
            times_seconds=None if times is None else list(times),
            relevance_of_frames=explanation.relevance_of_frames.tolist(),
            backwards=_sensitivity_body(explanation.backwards),
            frozen=_sensitivity_body(explanation.frozen),
            strip_png=encoded[STRIP_FILE],
            overlay_mp4=encoded.get(VIDEO_FILE),
        )

    def _predict_heads(self, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        with self._metrics.pass_seconds.time():
            return self.trained.predict_heads(frames)

    def _views_of(self, head: str) -> Views:
        return self.trained.views(head, self._views.num_clips, self._views.num_crops)

    def _decoded(self, file: Path, wanted: Iterable[Views]) -> dict[Views, DecodedUpload]:
        """The frames of a file in several views, or in the first ones if it is an image, which is the same in all."""
        decoded: dict[Views, DecodedUpload] = {}
        for views in dict.fromkeys(wanted):
            decoded[views] = self._decode(Job(file, views))
            if decoded[views].kind == "image":
                break
        return decoded

    @contextmanager
    def _file(self, upload: BinaryIO) -> Iterator[Path]:
        """The upload as a file, within the block."""
        with TemporaryDirectory(dir=self._folder.name) as folder:
            path = Path(folder, UPLOAD)
            with path.open("wb") as file:
                shutil.copyfileobj(upload, file)
            yield path


def _sensitivity_body(sensitivity: Sensitivity | None) -> SensitivityBody | None:
    return None if sensitivity is None else SensitivityBody(**asdict(sensitivity))
