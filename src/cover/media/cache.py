"""Decoded frames of a whole manifest, for datasets that fit into memory and are read many times.

They lie in files that are mapped into memory: in nameless ones, for one run, or in those of a folder, for all processes
that want the same frames:

    FOLDER/DIGEST-8x140/        8 frames with a short side of at most 140 px, of the samples with that digest
        frames-0, frames-1, …   uint8 [T,Y,X,3] of one clip after the other; a file a process that decoded
        places.npy, errors.json
    FOLDER/DIGEST-8x140.lock    held by the process that decodes
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
"""Fewest samples worth starting a process for; so many small images are decoded in about a tenth of a second."""

Frames = npt.NDArray[np.uint8]

_BATCH_SIZE = 16


class FrameCache:
    """Frames of every sample as training reads them, before augmentation; read-only.

    Workers forked afterwards share its memory. What could not be decoded raises the same DecodeError when asked for.
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
        """Decode all samples of `manifest`, their short side brought down to `max_short_side_px`.

        num_processes: that decode; at most one for CLIPS_PER_PROCESS samples. 0 and 1 decode in this one.
        folder: where the frames are kept; those that are there are not decoded again. None: in this process's memory.

        Raises CoverError when a process is killed, or the folder cannot be written.
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
            remedy="name another data.cache_folder, or leave it out to keep frames in memory",
        )
        return cls.open(place)

    @classmethod
    def open(cls, place: Path) -> FrameCache:
        """Map what is kept in a folder of that kind."""
        clips = StoredClips.read(place)
        with ExitStack() as stack:
            numbers = range(len(list(place.glob("frames-*"))))
            return cls([stack.enter_context((place / f"frames-{n}").open("rb")) for n in numbers], clips)

    def __getitem__(self, index: int) -> Frames:
        """uint8 [T,Y,X,3]. Raises DecodeError, naming the file."""
        if index in self._clips.errors:
            raise DecodeError(*self._clips.errors[index])
        file, offset, *shape = self._clips.places[index].tolist()
        size = 3 * shape[0] * shape[1] * shape[2]
        return np.frombuffer(self._memory[file], np.uint8, size, offset).reshape(*shape, 3)

    def __len__(self) -> int:
        return len(self._clips.places)

    @property
    def num_bytes(self) -> int:
        """Memory taken by the frames."""
        return sum(map(len, self._memory))


def _decode_into_folder(folder: Path, num_files: int, decode: Callable[[Sequence[BinaryIO]], StoredClips]) -> None:
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"frames-{number}").open("wb")) for number in range(num_files)]
        decode(files).write(folder)
        for file in files:
            os.fsync(file.fileno())  # or a machine that goes down could leave files of zeros


def _mapped(file: BinaryIO) -> mmap.mmap | bytes:
    """The file's content, read-only; an empty file cannot be mapped."""
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(file.fileno()).st_size else b""


@dataclass(frozen=True)
class StoredClips:
    """Where the frames of each sample lie.

    places: int64 [samples,5], a row (number of the file, offset in bytes, T, Y, X); zeros where there are no frames.
    errors: sample → message and reason of its DecodeError.
    """

    places: npt.NDArray[np.int64]
    errors: Mapping[int, tuple[str, str]]

    @classmethod
    def read(cls, folder: Path) -> StoredClips:
        """What `write` has written there."""
        errors = json.loads((folder / "errors.json").read_text())
        return cls(np.load(folder / "places.npy"), {index: (message, reason) for index, message, reason in errors})

    def write(self, folder: Path) -> None:
        """FOLDER/places.npy and FOLDER/errors.json. Raises OSError."""
        np.save(folder / "places.npy", self.places)
        (folder / "errors.json").write_text(json.dumps([(index, *error) for index, error in self.errors.items()]))


def decode_into(
    files: Sequence[BinaryIO], manifest: Manifest, *, num_frames: int, max_short_side_px: int
) -> StoredClips:
    """Decode all samples of `manifest`, their short side brought down to `max_short_side_px`, a process a file.

    Raises CoverError when a process is killed, and OSError when a file cannot be written.
    """
    places = np.zeros((len(manifest), 5), np.int64)
    errors: dict[int, tuple[str, str]] = {}
    decoder = _StoringDecoder(files, manifest, num_frames, max_short_side_px)
    samples = range(len(manifest))
    keys = (samples[first : first + _BATCH_SIZE] for first in samples[::_BATCH_SIZE])
    batches = in_workers(decoder, keys, num_workers=len(files) if len(files) > 1 else 0, ahead=4)
    with closing(batches), workers_watched(f"or switch off cache_frames, for which {manifest.name} was decoded"):
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
    """Decodes samples into the file of the process it runs in."""

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
            return DecodeError(str(error), error.reason)  # anew: without what caused it, which need not be picklable
        try:
            return self._store(scale_down(frames, self._max_short_side_px))
        except OSError as error:
            return error  # of that file, and not of the process

    def _store(self, frames: Frames) -> _Place:
        worker = get_worker_info()
        number = worker.id if worker else 0
        file = self._files[number]
        offset = file.tell()
        file.write(np.ascontiguousarray(frames).data)
        file.flush()
        return number, offset, *frames.shape[:3]


def _timed(batches: Iterator[list[_Outcome]], name: str, num_clips: int) -> Iterator[list[_Outcome]]:
    """`batches` behind a progress bar on the error stream, which gives way to one line of how long they took."""
    started = time.monotonic()
    with progress_bar("clips", transient=True) as progress:
        bar = progress.add_task(f"decoding {name}", total=num_clips)
        for batch in batches:
            progress.advance(bar, len(batch))
            yield batch
    seconds = time.monotonic() - started
    report = f"decoded {num_clips:,} clips of {name} in {seconds:,.0f} s ({num_clips / seconds:,.0f} clips/s)"
    Terminal(stderr=True).print(report, soft_wrap=True)
