"""A live stream → its newest frames: a camera, RTSP, whatever FFmpeg opens.

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
from cover.media.failures import decoding
from cover.media.pixels import make_pictures
from cover.media.sequential import all_frames
from cover.media.source import MediaSource

Frame = npt.NDArray[np.uint8]

_TIMEOUT_SECONDS = 10.0
"""For connecting, and for the next packet; then the connection is taken for lost."""


class LiveWindow(NamedTuple):
    """The newest frames, uint8 [Y,X,3] each. is_first: since the stream was connected, so that none came before."""

    frames: Sequence[Frame]
    is_first: bool


class LiveStream:
    """A stream that a thread reads while the block lasts; a number is that of a camera (Video4Linux).

    num_frames, step_seconds: of a window; frames are taken by the clock, as they arrive.
    short_side_px: what a longer short side is scaled down to.
    report: is told of connections, in a line each.
    first_wait_seconds: until a lost connection is tried again; doubled each time, up to 30.

    A file is played at its own speed, as a rehearsal for a camera. It ends, as do pipes; all else is connected anew.
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
        self._thread.join(timeout=1.0)  # FFmpeg may be waiting for a packet, in a thread that ends with the program

    def windows(self, stride: int) -> Iterator[LiveWindow]:
        """The newest frames whenever at least `stride` of them are new; frames that come meanwhile may be passed over.

        Raises DecodeError where the stream cannot be opened in the first place.
        """
        num_seen = connection = 0
        while taken := self._wait_for(num_seen + stride):
            before = connection
            num_seen, connection, frames = taken
            yield LiveWindow(frames, is_first=connection != before)
        if self._error:
            raise self._error

    def _wait_for(self, num_taken: int) -> tuple[int, int, list[Frame]] | None:
        """How many frames were taken, by which connection, and the newest; None if so many will never be."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._is_ready(num_taken))
            return (self._num_taken, self._num_connections, list(self._newest)) if self._is_ready(num_taken) else None

    def _is_ready(self, num_taken: int) -> bool:
        return len(self._newest) == self._newest.maxlen and self._num_taken >= num_taken

    def _run(self) -> None:
        """The life of the thread."""
        try:
            self._read_and_connect_again()
        except Exception as error:  # raised where the windows are asked for
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
                        f"{self._name} cannot be opened ({reason}); fix the address, or check what serves it"
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
            with decoding(Path(address)), open_video(MediaSource.of(address), num_threads=0) as video:
                yield video
            return
        if address.isdecimal():
            if sys.platform != "linux":
                raise DecodeError("cameras go by number on Linux only")
            address, form = f"/dev/video{address}", "v4l2"
        with open_live(address, format=form, timeout_seconds=_TIMEOUT_SECONDS) as video:
            yield video

    def _sampled(self, video: OpenVideo) -> Generator[VideoFrame]:
        """The first frame that arrives in each step."""
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
