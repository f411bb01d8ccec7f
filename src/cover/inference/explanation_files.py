"""An explanation as files: the strip of its frames, a video that shows one after the other, and all numbers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cover.core.atomic_files import whole_file
from cover.core.drawing import drawing
from cover.core.progress import track
from cover.inference.explain import Explanation
from cover.inference.heatmaps import PANELS_SIZE_PX, STYLE, panels_figure, strip_figure

STRIP_FILE, VIDEO_FILE, JSON_FILE = "strip.png", "overlay.mp4", "explanation.json"
STRIP_DPI = 150
MIN_SECONDS_A_FRAME = 0.3
"""Frames of the video are held at least so long, so that a short clip can be followed."""


def write_explanation(explanation: Explanation, out: Path) -> list[Path]:
    """Write strip, video (not of an image) and numbers into a folder; each file whole or not at all."""
    is_video = explanation.kind == "video"
    with drawing(STYLE):
        with whole_file(out / STRIP_FILE) as file:
            figure = strip_figure(explanation) if is_video else panels_figure(explanation, 0)
            figure.savefig(file, format="png", dpi=STRIP_DPI)
        if is_video:
            with whole_file(out / VIDEO_FILE) as file:
                _write_video(explanation, file)
    with whole_file(out / JSON_FILE) as file:
        file.write_text(explanation.to_json())
    return [out / name for name in (STRIP_FILE, VIDEO_FILE, JSON_FILE) if is_video or name != VIDEO_FILE]


def _write_video(explanation: Explanation, path: Path) -> None:
    """H.264; every frame of the clip is held until the next, but for a frame's least time."""
    times = explanation.times_seconds or ()
    seconds_a_frame = max(times[1] - times[0] if len(times) > 1 else 0.0, MIN_SECONDS_A_FRAME)
    rate = Fraction(1 / seconds_a_frame).limit_denominator(1000)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = *PANELS_SIZE_PX, "yuv420p"
        for index in track(range(len(explanation.frames)), "overlay", unit="frames"):
            canvas = FigureCanvasAgg(panels_figure(explanation, index))
            canvas.draw()
            picture = np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
