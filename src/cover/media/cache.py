"""Decoded frames of a whole manifest kept in memory, for datasets that fit and are read many times."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from cover.catalog.manifest import Manifest
from cover.catalog.progress import progress
from cover.errors import DecodeError
from cover.media.augment import scale_down
from cover.media.decode import decode_clip

Frames = npt.NDArray[np.uint8]


class FrameCache:
    """Frames of every sample as training reads them, before augmentation; read-only once filled.

    Workers forked afterwards share its memory. What could not be decoded raises the same DecodeError when asked for.
    """

    def __init__(self, clips: Sequence[Frames | DecodeError]) -> None:
        self._clips = clips

    @classmethod
    def fill(
        cls, manifest: Manifest, *, num_frames: int, max_short_side_px: int, num_threads: int | None = None
    ) -> FrameCache:
        """Decode all samples of `manifest`, their short side brought down to `max_short_side_px`.

        Threads do: decoding and scaling run outside Python's lock.
        """

        def decode(index: int) -> Frames | DecodeError:
            try:
                return scale_down(decode_clip(manifest[index], manifest.kind, num_frames), max_short_side_px)
            except DecodeError as error:
                return DecodeError(str(error))  # anew: without the traceback, which would keep frames alive

        with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
            clips = pool.map(decode, range(len(manifest)))
            return cls(list(progress(clips, f"Decoding {manifest.name} {manifest.split}", total=len(manifest))))

    def __getitem__(self, index: int) -> Frames:
        """uint8 [T,Y,X,3]. Raises DecodeError, naming the file."""
        clip = self._clips[index]
        if isinstance(clip, DecodeError):
            raise DecodeError(str(clip))
        return clip

    def __len__(self) -> int:
        return len(self._clips)

    @property
    def num_bytes(self) -> int:
        """Memory taken by the frames."""
        return sum(clip.nbytes for clip in self._clips if not isinstance(clip, DecodeError))
