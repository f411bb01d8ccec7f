"""An explanation as files: a strip of its frames, a video that shows them one after the other, and all numbers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from cover.core.atomic_files import whole_file
from cover.core.drawing import drawing
from cover.core.progress import track
from cover.errors import escaped
from cover.inference.explain import Explanation

STRIP_FILE, VIDEO_FILE, JSON_FILE = "strip.png", "overlay.mp4", "explanation.json"
STRIP_DPI = 150
MIN_SECONDS_A_FRAME = 0.3
"""The video shows each frame at least this long, so that you can follow a short clip."""
COLUMNS = 8
"""Frames in a row of the strip."""
PANELS_SIZE_PX, PANELS_DPI = (960, 560), 100
COLOR_MAP = "inferno"
RELEVANCE_COLOR, ROLLOUT_COLOR, TEXT_COLOR = "#d9480f", "#868e96", "#343a40"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": TEXT_COLOR,
    "axes.titlesize": 9,
    "axes.titlecolor": TEXT_COLOR,
    "axes.labelcolor": TEXT_COLOR,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a class name may hold a dollar sign
}
RELEVANCE_TITLE, ROLLOUT_TITLE = "spoke for the class", "where it looked"


def write_explanation(explanation: Explanation, out: Path, *, with_headline: bool = True) -> list[Path]:
    """Write the strip, the video (not for an image) and the numbers into a folder; each file whole or not at all.

    Args:
        explanation: What to write.
        out: The folder.
        with_headline: Whether the pictures state the class and its probabilities above the frames.

    Returns:
        The files.
    """
    is_video = explanation.kind == "video"
    with drawing(STYLE):
        with whole_file(out / STRIP_FILE) as file:
            figure = (
                strip_figure(explanation, with_headline) if is_video else panels_figure(explanation, 0, with_headline)
            )
            figure.savefig(file, format="png", dpi=STRIP_DPI)
        if is_video:
            with whole_file(out / VIDEO_FILE) as file:
                _write_video(explanation, file, with_headline)
    with whole_file(out / JSON_FILE) as file:
        file.write_text(explanation.to_json())
    return [out / name for name in (STRIP_FILE, VIDEO_FILE, JSON_FILE) if is_video or name != VIDEO_FILE]


def _write_video(explanation: Explanation, path: Path, with_headline: bool) -> None:
    """Write H.264. Each frame lasts until the next one, but at least MIN_SECONDS_A_FRAME."""
    times = explanation.times_seconds or ()
    seconds_a_frame = max(times[1] - times[0] if len(times) > 1 else 0.0, MIN_SECONDS_A_FRAME)
    rate = Fraction(1 / seconds_a_frame).limit_denominator(1000)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = *PANELS_SIZE_PX, "yuv420p"
        for index in track(range(len(explanation.frames)), "overlay", unit="frames"):
            canvas = FigureCanvasAgg(panels_figure(explanation, index, with_headline))
            canvas.draw()
            picture = np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def strip_figure(explanation: Explanation, with_headline: bool = True) -> Figure:
    """Draw every frame of a video as the model saw it, what spoke for the class, where it looked, and all shares."""
    num_frames = len(explanation.frames)
    columns = min(num_frames, COLUMNS)
    num_rows = -(-num_frames // COLUMNS)
    width_inches = max(1.25 * columns + 1.1, 5.5)
    figure = Figure(figsize=(width_inches, 3.75 * num_rows + 2.2), layout="constrained")
    if with_headline:
        figure.suptitle("\n".join(map(escaped, headline(explanation))), x=0.01, ha="left", fontsize=11)
    parts: Any = figure.subfigures(2, 1, height_ratios=[3.75 * num_rows, 1.6])
    upper, lower = parts
    grid = upper.subplots(3 * num_rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for index in range(num_frames):
        row, column = divmod(index, columns)
        _show_frame(list(grid[3 * row : 3 * row + 3, column]), explanation, index)
        grid[3 * row, column].set_title(time_stamp(explanation, index))
    for row in range(num_rows):
        for axes, label in zip(grid[3 * row :, 0], ("the model's view", RELEVANCE_TITLE, ROLLOUT_TITLE), strict=False):
            axes.text(-0.05, 0.5, label, transform=axes.transAxes, rotation=90, ha="right", va="center", fontsize=8)
    scale = ScalarMappable(Normalize(0, 1), COLOR_MAP)
    bar = upper.colorbar(scale, ax=grid, shrink=0.5, aspect=30, pad=0.01, ticks=[0, 1])
    bar.ax.set_yticklabels(["none", "most"])
    _show_bars(lower.subplots(), explanation)
    return figure


def panels_figure(explanation: Explanation, index: int, with_headline: bool = True) -> Figure:
    """Draw one frame as the model saw it, what spoke for the class, and where it looked, then the shares."""
    is_video = explanation.kind == "video"
    width_inches, height_inches = (side / PANELS_DPI for side in PANELS_SIZE_PX)
    figure = Figure(figsize=(width_inches, height_inches if is_video else 3.8), dpi=PANELS_DPI, layout="constrained")
    if with_headline:
        figure.suptitle("\n".join(map(escaped, headline(explanation))), x=0.01, ha="left", fontsize=11)
    upper: Any = figure
    if is_video:
        parts: Any = figure.subfigures(2, 1, height_ratios=[3.2, 1.3])
        upper, lower = parts
        _show_bars(lower.subplots(), explanation, current=index)
    axes = list(upper.subplots(1, 3))
    _show_frame(axes, explanation, index)
    titles = (time_stamp(explanation, index) if is_video else "the model's view", RELEVANCE_TITLE, ROLLOUT_TITLE)
    for place, title in zip(axes, titles, strict=True):
        place.set_axis_off()
        place.set_title(title)
    return figure


def headline(explanation: Explanation) -> list[str]:
    """Describe an explanation in lines: the class and its probability, and what changes without time."""
    lines = [f"{explanation.class_name} {100 * explanation.probability:.1f} %  ·  head {explanation.head}"]
    lines[0] += f"  ·  {explanation.file.name}"
    if explanation.predicted != explanation.class_name:
        lines[0] += f"  ·  most probable: {explanation.predicted}"
    if explanation.backwards and explanation.frozen:
        orders = {
            "played backwards": explanation.backwards,
            f"frozen at {time_stamp(explanation, explanation.frozen_frame)}": explanation.frozen,
        }
        lines += [
            f"{name}: {100 * order.probability:.1f} %, total variation {order.total_variation:.2f}"
            for name, order in orders.items()
        ]
    return lines


def time_stamp(explanation: Explanation, index: int) -> str:
    """The time of a frame of a video, or its number if the time is not known."""
    return f"{explanation.times_seconds[index]:.2f} s" if explanation.times_seconds else f"frame {index + 1}"


def heat_map(frame: npt.NDArray[np.uint8], weights: npt.NDArray[np.float32], peak: float) -> npt.NDArray[np.float32]:
    """Lay a heat map over a grey frame.

    Args:
        frame: uint8 [Y,X,3].
        weights: float32 [rows,columns], the weights of the frame's patches.
        peak: The weight that gets the strongest colour.

    Returns:
        RGB from 0 to 1, float32 [Y,X,3].
    """
    heat = np.asarray(
        Image.fromarray(weights / max(peak, 1e-12)).resize(frame.shape[1::-1], Image.Resampling.BILINEAR)
    ).clip(0, 1)
    grey = frame.mean(2, keepdims=True) / 255
    opacity = 0.85 * heat[..., None] ** 0.75
    colors = mpl.colormaps[COLOR_MAP](0.2 + 0.75 * heat)[..., :3]
    return ((1 - opacity) * grey + opacity * colors).astype(np.float32)  # type: ignore[no-any-return]


def _show_frame(axes: list[Axes], explanation: Explanation, index: int) -> None:
    frame = explanation.frames[index]
    axes[0].imshow(frame)
    for place, weights in zip(axes[1:], (explanation.relevance, explanation.rollout), strict=True):
        place.imshow(heat_map(frame, weights[index], float(weights.max())))


def _show_bars(axes: Axes, explanation: Explanation, current: int | None = None) -> None:
    """Draw the shares of the frames. If `current` is given, the other frames are paler."""
    places = np.arange(len(explanation.frames))
    alphas = [1.0 if current in (None, place) else 0.35 for place in places]
    for shift, shares, color in (
        (-0.2, explanation.relevance_of_frames, RELEVANCE_COLOR),
        (0.2, explanation.rollout_of_frames, ROLLOUT_COLOR),
    ):
        bars = axes.bar(places + shift, 100 * shares, 0.4)
        for bar, alpha in zip(bars, alphas, strict=True):
            bar.set_facecolor((color, alpha))
    axes.axhline(100 / len(places), color=TEXT_COLOR, lw=0.8, ls=(0, (3, 3)))
    step = -(-len(places) // (2 * COLUMNS))
    axes.set_xticks(places[::step], [time_stamp(explanation, int(place)) for place in places[::step]])
    axes.set(ylabel="share (%)", xlim=(-0.6, len(places) - 0.4))
    keys = [Patch(color=RELEVANCE_COLOR, label=RELEVANCE_TITLE), Patch(color=ROLLOUT_COLOR, label=ROLLOUT_TITLE)]
    axes.legend(handles=keys, frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
