"""What a model says about a user's own files and streams: `cover.predict`, `cover.timeline`, `cover.watch`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from cover.errors import DecodeError
from cover.inference.inputs import Inputs
from cover.inference.prediction import Prediction, predict_files
from cover.inference.timeline import Change, Timeline, find_changes, find_timeline
from cover.inference.windows import WindowFormat
from cover.media.live_stream import LiveStream
from cover.runs.model import OpenModel
from cover.runs.trained import open_model


def predict(
    run: str | Path | OpenModel,
    files: str | Path | Iterable[str | Path],
    *,
    heads: Sequence[str] = (),
    top: int = 5,
    num_clips: int | None = None,
    num_crops: int | None = None,
    frame_folders: bool = False,
    on_unreadable: Callable[[DecodeError], None] | None = None,
) -> Iterator[Prediction]:
    """Predict the most probable classes of videos and images.

    Files are decoded in threads while the model works, and files of equal length share a batch. Each head is shown
    clips of the length and sampling that it was trained with.

    Args:
        run: A run or any other model that `open_model` opens, or one that is open.
        files: One or several files, folders, patterns or lists ("@list.txt"), as `cover predict` takes them.
        heads: Datasets whose classes are predicted; all if empty.
        top: Number of classes per head.
        num_clips: Views in time whose logits are averaged; the recipe's by default.
        num_crops: Views in space; the recipe's by default.
        frame_folders: Whether a folder that contains images is one video.
        on_unreadable: Called with the DecodeError of each file that cannot be read. The file is then skipped.

    Yields:
        A prediction for each readable file, in the order of the files.

    Raises:
        CheckpointError: `run` is no model, or a head is unknown.
        CoverError: A name stands for no file.
        RecipeError: There are too many views.
        DecodeError: A file cannot be read, and there is no `on_unreadable`.
    """
    opened = _opened(run)
    class_names, evaluation = opened.class_names(heads), opened.evaluation
    num_clips, num_crops = evaluation.views(num_clips, num_crops)
    return predict_files(
        opened.predict_heads,
        Inputs([str(file) for file in ([files] if isinstance(files, str | Path) else files)], frame_folders),
        class_names=class_names,
        sigmoid_heads=opened.model.config.sigmoid_heads,
        views={head: opened.views(head, num_clips, num_crops) for head in class_names},
        num_classes_shown=top,
        batch_size=evaluation.batch_size,
        on_unreadable=on_unreadable,
    )


def timeline(
    run: str | Path | OpenModel,
    file: str | Path,
    *,
    heads: Sequence[str] = (),
    window_seconds: float | None = None,
    stride_seconds: float | None = None,
    top: int = 1,
    threshold: float = 0.0,
) -> Timeline:
    """Find what happens in a long video, and when.

    The file is read once, in memory that does not depend on its length.

    Args:
        run: A run or any other model that `open_model` opens, or one that is open.
        file: The video.
        heads: Datasets whose classes are found; all if empty.
        window_seconds: Length of the window that the model sees at a time. Default: that of the training clips, if the
            model was trained on windows of so many seconds, else 4.
        stride_seconds: Time from window to window; a quarter of a window by default.
        top: Most classes per head at the same time.
        threshold: Least probability of a class, in 0..1.

    Returns:
        Segments with times in seconds, head, class and mean probability.

    Raises:
        CheckpointError: `run` is no model, or a head is unknown.
        CoverError: The stride leaves gaps between windows.
        DecodeError: The file has no frames.
    """
    opened = _opened(run)
    return find_timeline(
        opened.predict_heads,
        Path(file),
        class_names=opened.class_names(heads),
        sigmoid_heads=opened.model.config.sigmoid_heads,
        window=_window(opened, heads, window_seconds, stride_seconds),
        top=top,
        threshold=threshold,
        batch_size=opened.evaluation.batch_size,
    )


def watch(
    run: str | Path | OpenModel,
    source: str,
    *,
    heads: Sequence[str] = (),
    window_seconds: float | None = None,
    stride_seconds: float | None = None,
    threshold: float = 0.0,
    report: Callable[[str], None] = lambda line: None,
) -> Iterator[Change]:
    """Watch a live stream. The model always sees the newest frames and skips those that it has no time for.

    Args:
        run: A run or any other model that `open_model` opens, or one that is open.
        source: An address that FFmpeg opens, a file, or the number of a camera.
        heads: Datasets whose classes are watched; all if empty.
        window_seconds: Length of the window that the model sees at a time. Default: that of the training clips, if the
            model was trained on windows of so many seconds, else 4.
        stride_seconds: Time from window to window; a quarter of a window by default.
        threshold: Least probability of a class, in 0..1.
        report: Called with a line about each lost and regained connection.

    Yields:
        Each change of a head's most probable class, until the stream ends.

    Raises:
        CheckpointError: `run` is no model, or a head is unknown.
        CoverError: The stride leaves gaps between windows.
        DecodeError: The stream cannot be opened.
    """
    opened = _opened(run)
    window, class_names = _window(opened, heads, window_seconds, stride_seconds), opened.class_names(heads)
    with LiveStream(
        source,
        num_frames=window.num_frames,
        step_seconds=window.step_seconds,
        short_side_px=window.crop_px,
        report=report,
    ) as stream:
        windows = stream.windows(window.stride)
        yield from find_changes(
            opened.predict_heads,
            windows,
            class_names=class_names,
            sigmoid_heads=opened.model.config.sigmoid_heads,
            window=window,
            threshold=threshold,
        )


def _opened(run: str | Path | OpenModel) -> OpenModel:
    return run if isinstance(run, OpenModel) else open_model(run)


def _window(
    opened: OpenModel, heads: Sequence[str], window_seconds: float | None, stride_seconds: float | None
) -> WindowFormat:
    config = opened.model.config
    window_seconds = opened.window_seconds(heads) if window_seconds is None else window_seconds
    stride_seconds = window_seconds / 4 if stride_seconds is None else stride_seconds
    return WindowFormat(config.num_frames, config.image_size_px, window_seconds, stride_seconds)
