"""Every sample of a manifest decoded once, its frames written to open files.

worker 0 ── decodes ── appends the frames to file 0
worker 1 ── decodes ── appends the frames to file 1
              └─────── file, offset, shape ──────── StoredClips
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from torch.utils.data import get_worker_info

from cover.core.progress import Terminal, progress_bar
from cover.datasets.manifest import Manifest
from cover.errors import DecodeError
from cover.media.augment import scale_down
from cover.media.decode import decode_clip
from cover.media.workers import in_workers, workers_watched

Frames = npt.NDArray[np.uint8]
_BATCH_SIZE = 16


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
