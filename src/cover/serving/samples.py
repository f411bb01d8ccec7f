"""Samples of a run's own datasets, to try the page with."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image

from cover.datasets.manifest import Manifest, ManifestRow
from cover.datasets.names import Kind
from cover.errors import CoverError, DecodeError
from cover.media.decode import decode_clip
from cover.media.failures import decoding
from cover.media.source import MediaSource
from cover.runs.trained import TrainedRun

NUM_SAMPLES = 4
"""Of each dataset."""
THUMBNAIL_PX = 160


@dataclass(frozen=True)
class PageSample:
    """A file of a dataset, whole, and the middle of it as a JPEG."""

    dataset: str
    class_name: str
    kind: Kind
    source: MediaSource
    thumbnail: bytes

    @property
    def thumbnail_uri(self) -> str:
        return f"data:image/jpeg;base64,{base64.b64encode(self.thumbnail).decode()}"

    def read(self) -> bytes:
        """Raises DecodeError where the file has gone."""
        with decoding(self.source), self.source.open() as file:
            return file.read()


def samples_of(trained: TrainedRun, report: Callable[[str], None]) -> list[PageSample]:
    """A few of each dataset that has a test or else a val split, the same at every start; those that cannot be decoded
    are left out.

    report: is told, in a line, of a dataset that has none, because its manifest has moved.
    """
    samples: list[PageSample] = []
    for dataset, section in trained.recipe.datasets.items():
        split = next((split for split in ("test", "val") if getattr(section, split)), None)
        if split is not None:
            try:
                manifest = trained.manifest(dataset, split)
            except CoverError as error:
                report(f"no samples of {dataset} on the page: {error}")
            else:
                samples += islice(_samples(dataset, manifest), NUM_SAMPLES)
    return samples


def _samples(dataset: str, manifest: Manifest) -> Iterator[PageSample]:
    shown: set[int] = set()
    for index in np.random.default_rng(0).permutation(len(manifest)).tolist():
        row = manifest[index]
        if row.label in shown or not _is_whole_file(row):
            continue
        with suppress(DecodeError):
            thumbnail = _thumbnail(row, manifest.kind)
            yield PageSample(dataset, manifest.class_names[row.label], manifest.kind, MediaSource.of(row), thumbnail)
            shown.add(row.label)


def _is_whole_file(row: ManifestRow) -> bool:
    """Neither a folder of frames nor a part of a longer video."""
    return row.start_seconds is None and row.end_seconds is None and not row.file.is_dir()


def _thumbnail(row: ManifestRow, kind: Kind) -> bytes:
    (frame,) = decode_clip(row, kind, 1, short_side_px=THUMBNAIL_PX)
    image, jpeg = Image.fromarray(frame), io.BytesIO()
    image.thumbnail((2 * THUMBNAIL_PX, THUMBNAIL_PX))
    image.save(jpeg, "JPEG", quality=80)
    return jpeg.getvalue()
