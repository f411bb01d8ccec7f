"""Decodes uploads in separate processes, because a file may hang them, fill their memory or kill them.

    thread of a request ── path ──▶ a free process ── frames, or a Refusal ──▶ the thread

A process has limits of time and memory, and is replaced when a file ends it. The content decides what a file is; names
that users give are never read.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from queue import Queue
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from cover.core.process_pool import Lost, Worker
from cover.datasets.manifest import ManifestRow
from cover.datasets.names import Kind
from cover.errors import DecodeError
from cover.inference.views import Views, media_kind
from cover.inference.windows import WindowFormat
from cover.media.decode import probe_row, stream_frames
from cover.media.failures import UnknownFormat
from cover.media.image import open_image
from cover.media.source import MediaInfo
from cover.serving.limits import Refusal, UploadLimits, UploadRejected

_UNKNOWN = "this is neither a video nor an image; send a whole file, for example MP4, WebM, JPEG or PNG"


class Job(NamedTuple):
    """A file, and what to decode: views, or all frames of a sliding window."""

    path: Path
    wanted: Views | WindowFormat


@dataclass(frozen=True)
class DecodedUpload:
    """The frames of a file.

    Attributes:
        info: Its duration, frame rate and size.
        frames: uint8 [T,V,C,Y,X] of views, or [F,Y,X,C] of a sliding window, cut to squares.
    """

    kind: Kind
    info: MediaInfo
    frames: npt.NDArray[np.uint8]

    @property
    def duration_seconds(self) -> float | None:
        """None for an image."""
        return self.info.duration_seconds

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        return iter(self.frames)


class Decoder:
    """A pool of decoding processes. Any number of threads may call it; they wait for a free process.

    Args:
        limits: What one upload may take.
        num_processes: Number of processes.
    """

    def __init__(self, limits: UploadLimits, num_processes: int) -> None:
        work = partial(decode_upload, limits=limits)
        self._workers = [
            Worker[Job, DecodedUpload | Refusal](work, limits.decode_seconds) for _ in range(num_processes)
        ]
        self._free = Queue[Worker[Job, DecodedUpload | Refusal]]()
        for worker in self._workers:
            self._free.put(worker)

    def __call__(self, job: Job) -> DecodedUpload:
        """Decode a file.

        Raises:
            UploadRejected: It cannot be decoded, or not within the limits.
        """
        worker = self._free.get()
        try:
            answer = worker.ask(job)
        finally:
            self._free.put(worker)
        match answer:
            case Refusal(status, reason):
                raise UploadRejected(status, reason)
            case Lost(reason):
                raise UploadRejected(422, f"decoding was stopped ({reason}); send a smaller or a whole file")
        return answer

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.kill()


def decode_upload(job: Job, limits: UploadLimits) -> DecodedUpload | Refusal:
    """Do the work of a process. Whatever a file raises becomes a Refusal."""
    _prepare_process(limits.decode_bytes)
    try:
        return _decode(job, limits)
    except UploadRejected as error:
        return error.refusal
    except UnknownFormat:
        return Refusal(415, _UNKNOWN)
    except DecodeError as error:
        return Refusal(422, f"it cannot be decoded ({error.reason}); send a whole file")
    except Exception as error:  # such as MemoryError: nothing that a file does is an error of the server
        return Refusal(422, f"it cannot be decoded ({type(error).__name__}); send a smaller or a whole file")


def _decode(job: Job, limits: UploadLimits) -> DecodedUpload:
    if not job.path.stat().st_size:
        raise UploadRejected(400, "the file is empty; send a video or an image")
    kind = media_kind(job.path)
    info = _probe(job.path, kind)
    _check(info, limits)
    if isinstance(job.wanted, Views):
        frames = job.wanted.read(job.path).frames.numpy()
    elif kind == "video":
        frames = _all_frames(job.path, job.wanted, limits)
    else:
        raise UploadRejected(422, "an image has no timeline; send a video")
    return DecodedUpload(kind, info, frames)


def _probe(path: Path, kind: Kind) -> MediaInfo:
    if kind == "video":
        return probe_row(ManifestRow(sample_id="", path=str(path), label=0), kind)
    with open_image(path) as image:  # only the header: the orientation may be stated after all pixels
        return MediaInfo(1, None, None, *image.size)


def _check(info: MediaInfo, limits: UploadLimits) -> None:
    if info.width_px * info.height_px > limits.max_pixels:
        raise UploadRejected(
            413,
            f"its frames have {info.width_px}×{info.height_px} pixels, "
            f"and at most {limits.max_pixels / 1e6:g} million are allowed; send a smaller file",
        )
    if (info.duration_seconds or 0.0) > limits.max_seconds:
        raise UploadRejected(
            413,
            f"it lasts {info.duration_seconds:.1f} s, and at most {limits.max_seconds:g} s are allowed; send a part",
        )


def _all_frames(path: Path, window: WindowFormat, limits: UploadLimits) -> npt.NDArray[np.uint8]:
    """One frame each step; no more than the limit of time allows, whatever the header says."""
    stream = stream_frames(path, step_seconds=window.step_seconds, short_side_px=window.crop_px)
    max_frames = int(limits.max_seconds / window.step_seconds) + 1
    frames = [window.cut(frame).permute(1, 2, 0).numpy() for frame in islice(stream, max_frames)]
    return np.stack(frames)


@cache
def _prepare_process(extra_bytes: int) -> None:
    """Use one thread, and on Linux limit how much this process can grow; at first it is mostly torch's libraries."""
    torch.set_num_threads(1)
    if not (statm := Path("/proc/self/statm")).exists():
        return
    present_bytes = int(statm.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (present_bytes + extra_bytes,) * 2)
