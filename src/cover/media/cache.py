"""Decoded frames of a whole manifest, for datasets that fit into memory and are read many times.

They lie in files that are mapped into memory: in nameless ones, for one run, or in those of a folder, for all processes
that want the same frames:

    FOLDER/DIGEST-8x140/        8 frames with a short side of at most 140 px, of the samples with that digest
        frames-0, frames-1, …   uint8 [T,Y,X,3] of one clip after the other; a file a process that decoded
        places.npy, errors.json
    FOLDER/DIGEST-8x140.lock    held by the process that decodes
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cover.core.atomic_files import fill_once
from cover.datasets.manifest import Manifest
from cover.errors import DecodeError
from cover.media.cache_writer import Frames, StoredClips, decode_into
from cover.media.parcels import memory_file

CLIPS_PER_PROCESS = 128
"""Fewest samples worth starting a process for; so many small images are decoded in about a tenth of a second."""


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
