"""What a trained run says about a user's own files and streams: `cover.predict`, `cover.timeline`, `cover.watch`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from cover.errors import DecodeError
from cover.inference.inputs import Inputs
from cover.inference.prediction import Prediction, predict_files
from cover.inference.timeline import Change, Timeline, find_changes, find_timeline
from cover.inference.views import Views
from cover.inference.windows import WINDOW_SECONDS, WindowFormat
from cover.media.live_stream import LiveStream
from cover.runs.trained import TrainedRun


def predict(
    run: str | Path | TrainedRun,
    files: str | Path | Iterable[str | Path],
    *,
    heads: Sequence[str] = (),
    top: int = 5,
    num_clips: int | None = None,
    num_crops: int | None = None,
    frame_folders: bool = False,
    on_unreadable: Callable[[DecodeError], None] | None = None,
) -> Iterator[Prediction]:
    """The most probable classes of videos and images; decoded in threads, in batches over files, in their order.

    run: a run, one of its checkpoints, or one that is open already.
    files: one or several, as `cover predict` takes them: files, folders, patterns, "@list.txt".
    heads, top: the `top` classes of each of `heads`, or of every head.
    num_clips, num_crops: views that are averaged; the recipe's where they are not given.
    frame_folders: a folder that holds images is one video.
    on_unreadable: takes the DecodeErrors of files that cannot be read, which are then passed over.

    Raises CheckpointError for no run or an unknown head, CoverError for a name that stands for no file, RecipeError for
    too many views, and DecodeError for a file that cannot be read, unless on_unreadable takes it.
    """
    trained = _opened(run)
    config, evaluation = trained.model.config, trained.recipe.evaluation
    num_clips, num_crops = evaluation.views(num_clips, num_crops)
    return predict_files(
        trained.predict_heads,
        Inputs([str(file) for file in ([files] if isinstance(files, str | Path) else files)], frame_folders),
        class_names=trained.class_names(heads),
        views=Views(config.num_frames, config.image_size_px, num_clips, num_crops),
        num_classes_shown=top,
        batch_size=evaluation.batch_size,
        on_unreadable=on_unreadable,
    )


def timeline(
    run: str | Path | TrainedRun,
    file: str | Path,
    *,
    heads: Sequence[str] = (),
    window_seconds: float = WINDOW_SECONDS,
    stride_seconds: float | None = None,
    top: int = 1,
    threshold: float = 0.0,
) -> Timeline:
    """What the heads see in a long video, and when; one pass over the file, in memory that its length does not change.

    run, heads: as in `predict`.
    window_seconds: that the model is shown at a time, best as many as its training clips lasted.
    stride_seconds: from window to window; a quarter of one where it is not given.
    top, threshold: a moment has at most `top` classes a head, each with a probability of at least `threshold`.

    Raises CheckpointError for no run or an unknown head, CoverError for a stride that leaves gaps, and DecodeError for
    a file that gives no frames.
    """
    trained = _opened(run)
    return find_timeline(
        trained.predict_heads,
        Path(file),
        class_names=trained.class_names(heads),
        window=_window(trained, window_seconds, stride_seconds),
        top=top,
        threshold=threshold,
        batch_size=trained.recipe.evaluation.batch_size,
    )


def watch(
    run: str | Path | TrainedRun,
    source: str,
    *,
    heads: Sequence[str] = (),
    window_seconds: float = WINDOW_SECONDS,
    stride_seconds: float | None = None,
    threshold: float = 0.0,
    report: Callable[[str], None] = lambda line: None,
) -> Iterator[Change]:
    """What the heads see in a live stream, whenever that changes, until the stream ends; most never do.

    source: an address that FFmpeg opens, a file, or the number of a camera.
    report: is told of connections, in a line each. Other arguments as in `timeline`.

    Raises CheckpointError for no run or an unknown head, CoverError for a stride that leaves gaps, and DecodeError for
    a stream that cannot be opened.
    """
    trained = _opened(run)
    window, class_names = _window(trained, window_seconds, stride_seconds), trained.class_names(heads)
    with LiveStream(
        source,
        num_frames=window.num_frames,
        step_seconds=window.step_seconds,
        short_side_px=window.crop_px,
        report=report,
    ) as stream:
        windows = stream.windows(window.stride)
        yield from find_changes(
            trained.predict_heads, windows, class_names=class_names, window=window, threshold=threshold
        )


def _opened(run: str | Path | TrainedRun) -> TrainedRun:
    return run if isinstance(run, TrainedRun) else TrainedRun.open(Path(run))


def _window(trained: TrainedRun, window_seconds: float, stride_seconds: float | None) -> WindowFormat:
    config = trained.model.config
    stride_seconds = window_seconds / 4 if stride_seconds is None else stride_seconds
    return WindowFormat(config.num_frames, config.image_size_px, window_seconds, stride_seconds)
