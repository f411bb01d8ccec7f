"""Decoded frames of a whole manifest, for datasets that fit into memory and are read many times.

The frames are in memory-mapped files. Without a folder, these are anonymous and last for one run. In a folder, all
processes that need the same frames share them:

    FOLDER/DIGEST-8x140/        8 frames with a short side of at most 140 px, of the samples with that digest
        frames-0, frames-1, …   uint8 [T,Y,X,3] of one clip after another; a file for each process that decoded
        places.npy, errors.json
    FOLDER/DIGEST-8x140.lock    held by the process that decodes

Filling a cache:

    worker 0 ── decodes ── appends the frames to file 0
    worker 1 ── decodes ── appends the frames to file 1
                  └─────── file, offset, shape ──────── StoredClips
"""

from __future__ import annotations

import json
import mmap
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from torch.utils.data import get_worker_info

from cover.core.atomic_files import fill_once
from cover.core.progress import Terminal, progress_bar
from cover.datasets.manifest import Manifest
from cover.errors import DecodeError
from cover.media.decode import decode_clip
from cover.media.pixels import scale_down
from cover.media.shared_memory import memory_file
from cover.media.workers import in_workers, workers_watched

CLIPS_PER_PROCESS = 128
"""The fewest samples that are worth starting a process for. Decoding this many small images takes about 0.1 s."""

Frames = npt.NDArray[np.uint8]

_BATCH_SIZE = 16


class FrameCache:
    """Frames of every sample as training reads them before augmentation; read-only.

    Workers that are forked later share its memory.

    Args:
        files: The open files with the frames.
        clips: Where the frames of each sample are.
    """

    def __init__(self, files: Sequence[BinaryIO], clips: StoredClips) -> None:
        self._memory = [_mapped(file) for file in files]
        self._clips = clips

    @classmethod
    def fill(
        cls,
        manifest: Manifest,
        *,
        num_frames: int,
        max_short_side_px: int,
        num_processes: int = 0,
        folder: Path | None = None,
    ) -> FrameCache:
        """Decode all samples of a manifest.

        Args:
            manifest: The samples.
            num_frames: T of a video.
            max_short_side_px: Scale a longer short side down to this.
            num_processes: How many processes decode, at most one for CLIPS_PER_PROCESS samples. 0 and 1 decode in this
                one.
            folder: Where to keep the frames; what is already there is not decoded again. None keeps them in the memory
                of this process.

        Raises:
            CoverError: A process is killed, or the folder cannot be written.
        """
        num_files = max(min(num_processes, len(manifest) // CLIPS_PER_PROCESS), 1)
        decode = partial(decode_into, manifest=manifest, num_frames=num_frames, max_short_side_px=max_short_side_px)
        if folder is None:
            with ExitStack() as stack:
                files = [stack.enter_context(memory_file()) for _ in range(num_files)]
                return cls(files, decode(files))
        place = folder / f"{manifest.digest[:16]}-{num_frames}x{max_short_side_px}"
        fill_once(
            place,
            lambda unfinished: _decode_into_folder(unfinished, num_files, decode),
            waiting_for=f"a process that decodes {manifest.name} into {place}",
            remedy="choose another data.cache_folder, or leave it out to keep frames in memory",
        )
        return cls.open(place)

    @classmethod
    def open(cls, place: Path) -> FrameCache:
        """Map the frames in a folder that `fill` has written."""
        clips = StoredClips.read(place)
        with ExitStack() as stack:
            numbers = range(len(list(place.glob("frames-*"))))
            return cls([stack.enter_context((place / f"frames-{n}").open("rb")) for n in numbers], clips)

    def __getitem__(self, index: int) -> Frames:
        """Return the frames of a sample, uint8 [T,Y,X,3].

        Raises:
            DecodeError: The sample could not be decoded; the same error as then.
        """
        if index in self._clips.errors:
            raise DecodeError(*self._clips.errors[index])
        file, offset, *shape = self._clips.places[index].tolist()
        size = 3 * shape[0] * shape[1] * shape[2]
        return np.frombuffer(self._memory[file], np.uint8, size, offset).reshape(*shape, 3)

    def __len__(self) -> int:
        return len(self._clips.places)

    @property
    def num_bytes(self) -> int:
        """The memory that the frames take."""
        return sum(map(len, self._memory))


def _decode_into_folder(folder: Path, num_files: int, decode: Callable[[Sequence[BinaryIO]], StoredClips]) -> None:
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"frames-{number}").open("wb")) for number in range(num_files)]
        decode(files).write(folder)
        for file in files:
            os.fsync(file.fileno())  # otherwise a machine that crashes could leave files of zeros


def _mapped(file: BinaryIO) -> mmap.mmap | bytes:
    """Map a file read-only. An empty file cannot be mapped."""
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(file.fileno()).st_size else b""


@dataclass(frozen=True)
class StoredClips:
    """Where the frames of each sample are.

    Attributes:
        places: int64 [samples,5], rows (number of the file, offset in bytes, T, Y, X); zeros for a sample without
            frames.
        errors: Sample → message and reason of its DecodeError.
    """

    places: npt.NDArray[np.int64]
    errors: Mapping[int, tuple[str, str]]

    @classmethod
    def read(cls, folder: Path) -> StoredClips:
        """Read what `write` has written."""
        errors = json.loads((folder / "errors.json").read_text())
        return cls(np.load(folder / "places.npy"), {index: (message, reason) for index, message, reason in errors})

    def write(self, folder: Path) -> None:
        """Write FOLDER/places.npy and FOLDER/errors.json.

        Raises:
            OSError: A file cannot be written.
        """
        np.save(folder / "places.npy", self.places)
        (folder / "errors.json").write_text(json.dumps([(index, *error) for index, error in self.errors.items()]))


def decode_into(
    files: Sequence[BinaryIO], manifest: Manifest, *, num_frames: int, max_short_side_px: int
) -> StoredClips:
    """Decode all samples of a manifest into open files, with a process for each file.

    Args:
        files: Where the frames go.
        manifest: The samples.
        num_frames: T of a video.
        max_short_side_px: Scale a longer short side down to this.

    Returns:
        Where the frames of each sample are.

    Raises:
        CoverError: A process is killed.
        OSError: A file cannot be written.
    """
    places = np.zeros((len(manifest), 5), np.int64)
    errors: dict[int, tuple[str, str]] = {}
    decoder = _StoringDecoder(files, manifest, num_frames, max_short_side_px)
    samples = range(len(manifest))
    keys = (samples[first : first + _BATCH_SIZE] for first in samples[::_BATCH_SIZE])
    batches = in_workers(decoder, keys, num_workers=len(files) if len(files) > 1 else 0, ahead=4)
    with closing(batches), workers_watched(f"or switch off cache_frames for {manifest.name}"):
        for index, outcome in enumerate(chain.from_iterable(_timed(batches, manifest.name, len(manifest)))):
            if isinstance(outcome, OSError):
                raise outcome
            if isinstance(outcome, DecodeError):
                errors[index] = str(outcome), outcome.reason
            else:
                places[index] = outcome
    return StoredClips(places, errors)


_Place = tuple[int, int, int, int, int]
_Outcome = _Place | DecodeError | OSError


class _StoringDecoder:
    """Decodes samples into the file that belongs to the current process."""

    def __init__(self, files: Sequence[BinaryIO], manifest: Manifest, num_frames: int, max_short_side_px: int) -> None:
        self._files = files
        self.manifest = manifest
        self._num_frames = num_frames
        self._max_short_side_px = max_short_side_px

    def __call__(self, samples: Iterable[int]) -> list[_Outcome]:
        return [self._outcome(index) for index in samples]

    def _outcome(self, index: int) -> _Outcome:
        try:
            row, side = self.manifest[index], self._max_short_side_px
            frames = decode_clip(row, self.manifest.kind, self._num_frames, short_side_px=side)
        except DecodeError as error:
            return DecodeError(str(error), error.reason)  # a copy without the cause, which may not be picklable
        try:
            return self._store(scale_down(frames, self._max_short_side_px))
        except OSError as error:
            return error  # returned, because the file is at fault and not the process

    def _store(self, frames: Frames) -> _Place:
        worker = get_worker_info()
        number = worker.id if worker else 0
        file = self._files[number]
        offset = file.tell()
        file.write(np.ascontiguousarray(frames).data)
        file.flush()
        return number, offset, *frames.shape[:3]


def _timed(batches: Iterator[list[_Outcome]], name: str, num_clips: int) -> Iterator[list[_Outcome]]:
    """Yield `batches` behind a progress bar on the error stream, and print how long they took at the end."""
    started = time.monotonic()
    with progress_bar("clips", transient=True) as progress:
        bar = progress.add_task(f"decoding {name}", total=num_clips)
        for batch in batches:
            progress.advance(bar, len(batch))
            yield batch
    seconds = time.monotonic() - started
    report = f"decoded {num_clips:,} clips of {name} in {seconds:,.0f} s ({num_clips / seconds:,.0f} clips/s)"
    Terminal(stderr=True).print(report, soft_wrap=True)
