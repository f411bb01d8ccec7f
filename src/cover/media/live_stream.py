"""The newest frames of a live stream: a camera, RTSP, or anything else that FFmpeg opens.

a thread    connect ──▶ decode ──▶ a frame a step ──▶ [the newest T] ──▶ a window, when one is asked for
               ▲                                        late frames fall out
               └── connection lost: again after 1, 2, 4, … 30 s
"""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Condition, Event, Thread
from types import TracebackType
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from cover.errors import DecodeError
from cover.media.demux import OpenVideo, open_live, open_video
from cover.media.pixels import make_pictures
from cover.media.sequential import all_frames

Frame = npt.NDArray[np.uint8]

_TIMEOUT_SECONDS = 10.0
"""The time limit for connecting and for each packet, after which the connection counts as lost."""


class LiveWindow(NamedTuple):
    """The newest frames.

    Attributes:
        frames: T frames, uint8 [Y,X,3] each.
        is_first: Whether this is the first window since the stream was connected.
    """

    frames: Sequence[Frame]
    is_first: bool


class LiveStream:
    """A stream that a thread reads while the `with` block is active.

    A file is played at its own speed, to rehearse for a camera. Files and pipes end; everything else is connected
    again.

    Args:
        source: An address, a path, or the number of a camera (Video4Linux).
        num_frames: Frames of a window.
        step_seconds: The time between frames. Frames are taken by the clock, as they arrive.
        short_side_px: Scale a longer short side down to this.
        report: Receives a line about each connection.
        first_wait_seconds: How long to wait before a lost connection is tried again; doubled each time, up to 30 s.
    """

    def __init__(
        self,
        source: str,
        *,
        num_frames: int,
        step_seconds: float,
        short_side_px: int | None = None,
        report: Callable[[str], None] = lambda line: None,
        first_wait_seconds: float = 1.0,
    ) -> None:
        self._source = source
        without_password = re.sub(r"//[^/]*@", "//", source)
        self._name = f"camera {source}" if source.isdecimal() else without_password
        self._step_seconds = step_seconds
        self._short_side_px = short_side_px
        self._report = report
        self._first_wait_seconds = first_wait_seconds
        self._is_file = Path(source).is_file()
        self._newest: deque[Frame] = deque(maxlen=num_frames)
        self._num_taken = self._num_connections = 0
        self._error: Exception | None = None
        self._is_over = False
        self._changed = Condition()
        self._closing = Event()
        self._thread = Thread(target=self._run, name=self._name, daemon=True)

    def __enter__(self) -> LiveStream:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._closing.set()
        self._thread.join(timeout=1.0)  # if FFmpeg waits for a packet, the thread ends with the program

    def windows(self, stride: int) -> Iterator[LiveWindow]:
        """Yield the newest frames whenever enough of them are new.

        Frames that arrive in the meantime may be skipped.

        Args:
            stride: The fewest new frames in a window.

        Raises:
            DecodeError: The stream cannot be opened at all.
        """
        num_seen = connection = 0
        while taken := self._wait_for(num_seen + stride):
            before = connection
            num_seen, connection, frames = taken
            yield LiveWindow(frames, is_first=connection != before)
        if self._error:
            raise self._error

    def _wait_for(self, num_taken: int) -> tuple[int, int, list[Frame]] | None:
        """Wait until `num_taken` frames have been taken, or return None if the stream ends before.

        Returns:
            How many frames were taken, the number of the connection, and the newest frames.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._is_ready(num_taken))
            return (self._num_taken, self._num_connections, list(self._newest)) if self._is_ready(num_taken) else None

    def _is_ready(self, num_taken: int) -> bool:
        return len(self._newest) == self._newest.maxlen and self._num_taken >= num_taken

    def _run(self) -> None:
        """The main function of the thread."""
        try:
            self._read_and_connect_again()
        except Exception as error:  # raised in `windows`
            self._error = error
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _read_and_connect_again(self) -> None:
        wait_seconds = self._first_wait_seconds
        while not self._closing.is_set():
            before = self._num_taken
            reason = "it has ended"
            try:
                self._read()
            except (av.FFmpegError, DecodeError) as error:
                reason = error.reason if isinstance(error, DecodeError) else str(error.strerror)
                if not self._num_connections:
                    raise DecodeError(
                        f"{self._name} cannot be opened ({reason}); fix the address, or check its server"
                    ) from error
            if self._is_file or self._source.startswith("pipe:"):
                return
            if self._num_taken > before:
                wait_seconds = self._first_wait_seconds
            self._report(f"{self._name}: {reason}; connecting again in {wait_seconds:g} s")
            self._closing.wait(wait_seconds)
            wait_seconds = min(2 * wait_seconds, 30.0)

    def _read(self) -> None:
        with self._opened() as video:
            stream = video.stream
            with self._changed:
                self._newest.clear()
                self._num_connections += 1
            self._report(f"{self._name}: {stream.width}×{stream.height}, {stream.codec_context.name}")
            with closing(self._sampled(video)) as frames:
                for picture in make_pictures(frames, self._short_side_px, video.pixel_aspect):
                    with self._changed:
                        self._newest.append(picture.rgb)
                        self._num_taken += 1
                        self._changed.notify_all()

    @contextmanager
    def _opened(self) -> Iterator[OpenVideo]:
        address, form = self._source, None
        if self._is_file:
            with open_video(address, num_threads=0) as video:
                yield video
            return
        if address.isdecimal():
            if sys.platform != "linux":
                raise DecodeError("cameras have numbers only on Linux")
            address, form = f"/dev/video{address}", "v4l2"
        with open_live(address, format=form, timeout_seconds=_TIMEOUT_SECONDS) as video:
            yield video

    def _sampled(self, video: OpenVideo) -> Generator[VideoFrame]:
        """Yield the first frame that arrives in each step."""
        started, step = time.monotonic(), 0
        first_seconds: float | None = None
        for frame in all_frames(video):
            seconds = time.monotonic() - started
            if self._is_file and frame.pts is not None:
                shown_seconds = float(frame.pts * video.time_base)
                first_seconds = shown_seconds if first_seconds is None else first_seconds
                self._closing.wait(max(shown_seconds - first_seconds - seconds, 0))
                seconds = max(seconds, shown_seconds - first_seconds)
            if self._closing.is_set():
                return
            if seconds >= step * self._step_seconds:
                yield frame
                step = int(seconds / self._step_seconds) + 1
