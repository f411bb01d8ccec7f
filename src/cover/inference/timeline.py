"""A long video or a live stream → what each head sees in it, and when.

one pass over a video ──▶ frames ──▶ windows ──▶ batches ──▶ model ──▶ moments ──▶ segments
live stream ──▶ newest window ──▶ model ──▶ mean of the windows that overlap ──▶ changes
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
from cover.evaluation.metrics import class_probabilities
from cover.inference.prediction import PredictHeads
from cover.inference.views import media_kind
from cover.inference.windows import (
    Scores,
    Segment,
    Window,
    WindowFormat,
    find_segments,
    fuse_windows,
    mean_scores,
    sliding_windows,
)
from cover.media.decode import stream_frames
from cover.media.live_stream import LiveWindow


@dataclass(frozen=True)
class Timeline:
    """What each head sees in a video, and when.

    Attributes:
        file: The video.
        duration_seconds: Its duration.
        window_seconds: Length of the sliding window.
        stride_seconds: From one window to the next.
        heads: Names of the heads.
        segments: Ordered by head, then by time.
    """

    file: Path
    duration_seconds: float
    window_seconds: float
    stride_seconds: float
    heads: tuple[str, ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Change:
    """From now on, a head sees this class.

    Attributes:
        class_name: None if no class is probable enough any more.
        probability: That of the most probable class.
    """

    head: str
    class_name: str | None
    probability: float


class Frames(Protocol):
    """Frames of a video, uint8 [Y,X,3], one each step, as `stream_frames` gives them.

    The duration may change while they are read.
    """

    @property
    def duration_seconds(self) -> float | None:
        """The duration, if it is known."""

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]: ...


def find_timeline(
    predict_heads: PredictHeads,
    file: Path,
    *,
    frames: Frames | None = None,
    class_names: Mapping[str, Sequence[str]],
    sigmoid_heads: Collection[str] = (),
    window: WindowFormat,
    top: int = 1,
    threshold: float = 0.0,
    batch_size: int = 16,
) -> Timeline:
    """Slide a window over a video and join what its heads see, with a progress bar and in constant memory.

    A moment has the mean probabilities of the windows that contain it.

    Args:
        predict_heads: The model.
        file: A video.
        frames: Its frames, one each `window.step_seconds`, if they are decoded already.
        class_names: The classes of each head, in label order.
        sigmoid_heads: The heads whose probabilities are sigmoids.
        window: The window.
        top: A segment is a time span in which a class is among the `top` of its head,
        threshold: and has at least this probability.
        batch_size: Windows a forward pass; as many more are decoded meanwhile.

    Raises:
        CoverError: The file is an image or a folder.
        DecodeError: The file has no frames; the message names it.
    """
    if frames is None:
        frames = _decoded(file, window)
    windows = sliding_windows(map(window.cut, frames), window.num_frames, window.stride)
    batches = iter(lambda: list(islice(windows, batch_size)), [])
    tracked = track(one_ahead(batches), file.name[:44], _num_batches(frames, window, batch_size), unit="batches")
    segments = find_segments(
        fuse_windows(_scored(predict_heads, tracked, class_names, sigmoid_heads), window.num_frames),
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


def _decoded(file: Path, window: WindowFormat) -> Frames:
    if os.path.isdir(file) or media_kind(file) == "image":
        raise CoverError(f"{file} is not a video, which a timeline needs; use `cover predict` for images and folders")
    return stream_frames(file, step_seconds=window.step_seconds, short_side_px=window.crop_px)


def _until_the_end(segment: Segment, duration_seconds: float, step_seconds: float) -> Segment:
    """Extend a last segment to the end: the last step is the one whose middle is in the video, so it may be short."""
    is_last = segment.end_seconds > duration_seconds - step_seconds / 2 - 1e-6
    return replace(segment, end_seconds=duration_seconds) if is_last else segment


def _scored(
    predict_heads: PredictHeads,
    batches: Iterable[Sequence[Window]],
    heads: Iterable[str],
    sigmoid_heads: Collection[str],
) -> Iterator[tuple[int, Scores]]:
    for batch in batches:
        logits = predict_heads(torch.stack([window.frames for window in batch], dim=1))
        probabilities = {head: class_probabilities(logits[head], head in sigmoid_heads) for head in heads}
        for index, window in enumerate(batch):
            yield window.start, {head: values[index] for head, values in probabilities.items()}


def _num_batches(stream: Frames, window: WindowFormat, batch_size: int) -> int | None:
    if stream.duration_seconds is None:
        return None
    num_frames = round(stream.duration_seconds / window.step_seconds)
    num_windows = -(-max(num_frames - window.num_frames, 0) // window.stride) + 1
    return -(-num_windows // batch_size)


def find_changes(
    predict_heads: PredictHeads,
    windows: Iterable[LiveWindow],
    *,
    class_names: Mapping[str, Sequence[str]],
    sigmoid_heads: Collection[str] = (),
    window: WindowFormat,
    threshold: float = 0.0,
) -> Iterator[Change]:
    """Watch a live stream for changes of the most probable class of each head.

    Scores are means over the windows that overlap, so that a single window changes nothing.

    Args:
        predict_heads: The model.
        windows: The stream's windows, in order.
        class_names: The classes of each head, in label order.
        sigmoid_heads: The heads whose probabilities are sigmoids.
        window: The format of the windows.
        threshold: Below this probability, a head sees no class.
    """
    recent: deque[Scores] = deque(maxlen=-(-window.num_frames // window.stride))
    seen: dict[str, str | None] = {}
    for live in windows:
        if live.is_first:
            recent.clear()
        logits = predict_heads(torch.stack([window.cut(frame) for frame in live.frames])[:, None])
        recent.append({head: class_probabilities(logits[head][0], head in sigmoid_heads) for head in class_names})
        for head, probabilities in mean_scores(recent).items():
            best = int(probabilities.argmax())
            probability = float(probabilities[best])
            class_name = class_names[head][best] if probability >= threshold else None
            if head not in seen or class_name != seen[head]:
                seen[head] = class_name
                yield Change(head, class_name, probability)
