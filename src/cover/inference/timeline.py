"""A long video → what each head sees in it, and when.

one pass over the file ──▶ frames ──▶ windows ──▶ batches ──▶ model ──▶ moments ──▶ segments
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from cover.core.prefetch import one_ahead
from cover.core.progress import track
from cover.errors import CoverError
from cover.inference.predict import PredictHeads
from cover.inference.views import media_kind
from cover.inference.windows import Scores, Segment, Window, WindowFormat, find_segments, moments, sliding_windows
from cover.media.decode import stream_frames


@dataclass(frozen=True)
class Timeline:
    """The segments of a video, ordered by head, then by time."""

    file: Path
    duration_seconds: float
    window_seconds: float
    stride_seconds: float
    heads: tuple[str, ...]
    segments: tuple[Segment, ...]


class Frames(Protocol):
    """What `stream_frames` gives: uint8 [Y,X,3] of each step, and the duration, which may change on the way."""

    @property
    def duration_seconds(self) -> float | None: ...

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]: ...


def find_timeline(
    predict_heads: PredictHeads,
    file: Path,
    *,
    frames: Frames | None = None,
    class_names: Mapping[str, Sequence[str]],
    window: WindowFormat,
    top: int = 1,
    threshold: float = 0.0,
    batch_size: int = 16,
) -> Timeline:
    """Slide a window over a video and join what its heads say; behind a progress bar, in memory that does not grow.

    A moment has the mean probabilities of the windows that contain it. A segment is a time in which a class is among
    the `top` of its head and has at least the probability `threshold`.

    frames: of the file, one each `window.step_seconds`, where they are decoded already.
    class_names: of each head, in label order. batch_size: windows a forward pass; as many more are decoded meanwhile.

    Raises CoverError for an image or a folder, and DecodeError, naming the file, when it gives no frames.
    """
    if frames is None:
        if file.is_dir() or media_kind(file) == "image":
            raise CoverError(
                f"{file} is not a video, which a timeline needs; use `cover predict` for images and folders"
            )
        frames = stream_frames(file, step_seconds=window.step_seconds, short_side_px=window.crop_px)
    windows = sliding_windows(map(window.cut, frames), window.num_frames, window.stride)
    batches = iter(lambda: list(islice(windows, batch_size)), [])
    tracked = track(one_ahead(batches), file.name[:44], _num_batches(frames, window, batch_size), unit="batches")
    segments = find_segments(
        moments(_scored(predict_heads, tracked, class_names), window.num_frames),
        class_names=class_names,
        step_seconds=window.step_seconds,
        top=top,
        threshold=threshold,
    )
    duration_seconds = frames.duration_seconds or 0.0
    return Timeline(
        file,
        duration_seconds,
        window.window_seconds,
        window.stride * window.step_seconds,
        tuple(class_names),
        tuple(_until_the_end(segment, duration_seconds, window.step_seconds) for segment in segments),
    )


def _until_the_end(segment: Segment, duration_seconds: float, step_seconds: float) -> Segment:
    """The last step is that whose middle is the last in the video, so its end is up to half a step off."""
    is_last = segment.end_seconds > duration_seconds - step_seconds / 2 - 1e-6
    return replace(segment, end_seconds=duration_seconds) if is_last else segment


def _scored(
    predict_heads: PredictHeads, batches: Iterable[Sequence[Window]], heads: Iterable[str]
) -> Iterator[tuple[int, Scores]]:
    for batch in batches:
        logits = predict_heads(torch.stack([window.frames for window in batch], dim=1))
        probabilities = {head: logits[head].softmax(-1) for head in heads}
        for index, window in enumerate(batch):
            yield window.start, {head: values[index] for head, values in probabilities.items()}


def _num_batches(stream: Frames, window: WindowFormat, batch_size: int) -> int | None:
    if stream.duration_seconds is None:
        return None
    num_frames = round(stream.duration_seconds / window.step_seconds)
    num_windows = -(-max(num_frames - window.num_frames, 0) // window.stride) + 1
    return -(-num_windows // batch_size)
