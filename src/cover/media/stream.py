"""A long video from its beginning to its end, in one pass: the frames shown at even steps of time.

    decoded     |   |   |   |   |   |   |   |   |   |
    steps       |---x---|---x---|---x---|---x---|-        x: the frame shown in the middle of each step

Of the decoded frames two are held at a time, so that the length of a video takes no memory.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from cover.errors import DecodeError
from cover.media.faults import decoding
from cover.media.one_by_one import all_frames, pts_of
from cover.media.pixels import make_pictures
from cover.media.source import Source
from cover.media.video import open_video, time_base_of


class FrameStream:
    """uint8 [Y,X,3], RGB and upright, of each step of a video file; at least one. They are those of decode_video for
    the same times.

    step_seconds: from one frame to the next; the first is that shown at step_seconds / 2.
    short_side_px: what a longer short side is scaled down to.
    duration_seconds: what the header says; after the last frame, where the video has ended. None is not known.

    Iterating raises DecodeError, naming the file, where no frame of it can be decoded.
    """

    def __init__(self, file: str | Path, *, step_seconds: float, short_side_px: int | None = None) -> None:
        self._source = Source.of(file)
        self._step_seconds = step_seconds
        self._short_side_px = short_side_px
        with decoding(self._source), open_video(self._source) as (container, stream):
            self.duration_seconds = _stated_seconds(container, stream)

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        with (
            decoding(self._source),
            open_video(self._source, num_threads=0) as (container, stream),
            closing(self._shown(container, stream)) as frames,
        ):
            for picture in make_pictures(frames, self._short_side_px):
                yield picture.rgb

    def _shown(self, container: InputContainer, stream: VideoStream) -> Generator[VideoFrame]:
        start, unit = stream.start_time or 0, float(time_base_of(stream))
        frames = all_frames(container, stream)
        shown, step = next(frames, None), 0
        if shown is None:
            raise DecodeError("no frame of it can be decoded")
        while shown is not None:
            coming = next(frames, None)
            end = pts_of(shown) + (shown.duration or 0) if coming is None else pts_of(coming)
            self.duration_seconds = (end - start) * unit
            # A millionth of a tick is taken off, as in decode_video. A video shorter than a step has one all the same.
            while (step + 0.5) * self._step_seconds < self.duration_seconds - 1e-6 * unit or (
                coming is None and not step
            ):
                yield shown
                step += 1
            shown = coming


def _stated_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None:
        return float(stream.duration * time_base_of(stream))
    return container.duration / 1e6 if container.duration is not None else None
