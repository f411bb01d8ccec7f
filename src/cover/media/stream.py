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
from av.video.frame import VideoFrame

from cover.errors import DecodeError
from cover.media.demux import OpenVideo, open_video
from cover.media.failures import decoding
from cover.media.pixels import make_pictures
from cover.media.sequential import all_frames, pts_of
from cover.media.source import Source

MAX_STILL_SECONDS = 3600
"""For how long one frame may be shown. More is no slide but a leap of the timestamps, which would fill days with it."""


class FrameStream:
    """uint8 [Y,X,3], RGB and as players show it, of each step of a video file; at least one. They are those of
    decode_video for the same times.

    step_seconds: from one frame to the next; the first is that shown at step_seconds / 2.
    short_side_px: what a longer short side is scaled down to.
    duration_seconds: what the header says; after the last frame, where the video has ended. None is not known.

    Iterating raises DecodeError, naming the file, where no frame of it can be decoded or one is shown for hours.
    """

    def __init__(self, file: str | Path, *, step_seconds: float, short_side_px: int | None = None) -> None:
        self._source = Source.of(file)
        self._step_seconds = step_seconds
        self._short_side_px = short_side_px
        with decoding(self._source), open_video(self._source) as video:
            self.duration_seconds = _stated_seconds(video)

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        with (
            decoding(self._source),
            open_video(self._source, num_threads=0) as video,
            closing(self._shown(video)) as frames,
        ):
            for picture in make_pictures(frames, self._short_side_px, video.pixel_aspect):
                yield picture.rgb

    def _shown(self, video: OpenVideo) -> Generator[VideoFrame]:
        start, unit = video.start_pts, float(video.time_base)
        frames = all_frames(video)
        shown, step, num_frames = next(frames, None), 0, 0
        if shown is None:
            raise DecodeError("no frame of it can be decoded")
        while shown is not None:
            coming, num_frames = next(frames, None), num_frames + 1
            end = _end(video, shown, num_frames) if coming is None else pts_of(coming)
            _check_still((pts_of(shown) - start) * unit, (end - start) * unit)
            self.duration_seconds = (end - start) * unit
            # A millionth of a tick is taken off, as in decode_video. A video shorter than a step has one all the same.
            while (step + 0.5) * self._step_seconds < self.duration_seconds - 1e-6 * unit or (
                coming is None and not step
            ):
                yield shown
                step += 1
            shown = coming


def _end(video: OpenVideo, last: VideoFrame, num_frames: int) -> int:
    return pts_of(last) + (last.duration or video.missing_duration(video.start_pts, pts_of(last), num_frames))


def _check_still(begins_seconds: float, ends_seconds: float) -> None:
    if ends_seconds - begins_seconds > MAX_STILL_SECONDS:
        raise DecodeError(
            f"its picture stands still from {begins_seconds:,.1f} s to {ends_seconds:,.1f} s; "
            f"at most {MAX_STILL_SECONDS:,} s are looked at"
        )


def _stated_seconds(video: OpenVideo) -> float | None:
    if video.stream.duration is not None:
        return float(video.stream.duration * video.time_base)
    return video.container.duration / 1e6 if video.container.duration is not None else None
