"""Decoded frames of a whole manifest kept in memory, for datasets that fit and are read many times.

worker 0 ── decodes ── appends the frames to file 0 ──┐
worker 1 ── decodes ── appends the frames to file 1 ──┼── mapped into memory ── FrameCache
              └─────── file, offset, shape ───────────┘
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset, get_worker_info

from cover.catalog.manifest import Manifest
from cover.errors import DecodeError
from cover.media.augment import scale_down
from cover.media.decode import decode_clip
from cover.media.workers import workers_watched
from cover.progress import progress_bar

Frames = npt.NDArray[np.uint8]

CLIPS_PER_PROCESS = 128
"""Fewest samples worth starting a process for; so many small images are decoded in about a tenth of a second."""


class FrameCache:
    """Frames of every sample as training reads them, before augmentation; read-only.

    Workers forked afterwards share its memory. What could not be decoded raises the same DecodeError when asked for.
    """

    def __init__(self, clips: Sequence[Frames | DecodeError]) -> None:
        self._clips = clips

    @classmethod
    def fill(cls, manifest: Manifest, *, num_frames: int, max_short_side_px: int, num_processes: int = 0) -> FrameCache:
        """Decode all samples of `manifest`, their short side brought down to `max_short_side_px`.

        num_processes: that decode; at most one for CLIPS_PER_PROCESS samples. 0 and 1 decode in this one.

        Raises CoverError when one of them is killed.
        """
        num_processes = min(num_processes, len(manifest) // CLIPS_PER_PROCESS)
        with ExitStack() as stack:
            files = [stack.enter_context(_memory_file()) for _ in range(max(num_processes, 1))]
            decoder = _StoringDecoder(manifest, num_frames, max_short_side_px, files)
            places = _decode_all(decoder, num_processes if num_processes > 1 else 0)
            used = {place.file for place in places if not isinstance(place, DecodeError)}
            memory = {number: mmap.mmap(files[number].fileno(), 0, access=mmap.ACCESS_READ) for number in used}
        return cls([place if isinstance(place, DecodeError) else _view(memory[place.file], place) for place in places])

    @classmethod
    def kept(cls, manifest: Manifest, *, num_frames: int, max_short_side_px: int, num_processes: int = 0) -> FrameCache:
        """As `fill`, but what this process has filled before it keeps: runs one after the other decode once."""
        key = str(manifest.path), manifest.digest, num_frames, max_short_side_px
        if key not in _KEPT:
            _KEPT[key] = cls.fill(
                manifest, num_frames=num_frames, max_short_side_px=max_short_side_px, num_processes=num_processes
            )
        return _KEPT[key]

    def __getitem__(self, index: int) -> Frames:
        """uint8 [T,Y,X,3]. Raises DecodeError, naming the file."""
        clip = self._clips[index]
        if isinstance(clip, DecodeError):
            raise DecodeError(str(clip), clip.reason)
        return clip

    def __len__(self) -> int:
        return len(self._clips)

    @property
    def num_bytes(self) -> int:
        """Memory taken by the frames."""
        return sum(clip.nbytes for clip in self._clips if not isinstance(clip, DecodeError))


_KEPT: dict[tuple[str, str, int, int], FrameCache] = {}


class _Place(NamedTuple):
    """Where the frames of a clip lie."""

    file: int
    offset: int
    shape: tuple[int, ...]


_Outcome = _Place | DecodeError


class _StoringDecoder(Dataset[_Outcome]):
    """Decodes samples into the file of the process it runs in; a map-style dataset of torch's DataLoader."""

    def __init__(self, manifest: Manifest, num_frames: int, max_short_side_px: int, files: Sequence[BinaryIO]) -> None:
        self.manifest = manifest
        self._num_frames = num_frames
        self._max_short_side_px = max_short_side_px
        self._files = files

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: int) -> _Outcome:
        try:
            row, side = self.manifest[index], self._max_short_side_px
            frames = decode_clip(row, self.manifest.kind, self._num_frames, short_side_px=side)
        except DecodeError as error:
            return DecodeError(str(error), error.reason)  # anew: without what caused it, which need not be picklable
        return self._store(scale_down(frames, self._max_short_side_px))

    def _store(self, frames: Frames) -> _Place:
        worker = get_worker_info()
        number = worker.id if worker else 0
        file = self._files[number]
        place = _Place(number, file.tell(), frames.shape)
        file.write(np.ascontiguousarray(frames).data)
        file.flush()
        return place


def _decode_all(decoder: _StoringDecoder, num_workers: int) -> list[_Outcome]:
    """What `decoder` makes of every sample, in order. Raises CoverError when a worker is killed."""
    loader = DataLoader(
        decoder,
        batch_size=16,
        collate_fn=_unchanged,
        num_workers=num_workers,
        prefetch_factor=4 if num_workers else None,
        multiprocessing_context="fork" if num_workers else None,  # which hands the open files on
        generator=torch.Generator(),  # or the loader would draw from, and so change, the global random state
    )
    name = decoder.manifest.name
    with workers_watched(f"or switch off cache_frames, for which {name} was decoded"):
        return list(chain.from_iterable(_timed(iter(loader), name, len(decoder))))


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
    Console(stderr=True).print(report, soft_wrap=True, highlight=False, markup=False)


def _memory_file() -> BinaryIO:
    """A file that needs neither a disk nor /dev/shm, which is small in containers; a temporary one but on Linux."""
    return open(os.memfd_create("frames"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()


def _view(memory: mmap.mmap, place: _Place) -> Frames:
    return np.frombuffer(memory, np.uint8, int(np.prod(place.shape)), place.offset).reshape(place.shape)


def _unchanged(batch: list[_Outcome]) -> list[_Outcome]:
    return batch
